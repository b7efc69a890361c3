"""The metrics of conf/metrics give the same numbers on two ranks as on one, for any distribution of the images."""

import datetime
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, distributed, multiprocessing
from torchmetrics import Metric

from fovea.metrics.auroc import MeanAUROC
from fovea.training.meter import update

CONF = Path(__file__).resolve().parents[2] / "conf" / "metrics"
K = 6
RANKS = 2


def build() -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for name in ("multiclass", "multilabel"):
        config = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), {"num_classes": K})
        for part in ("metrics", "per_class_metrics"):
            metrics |= {f"{name}.{part}.{key}": metric for key, metric in instantiate(config[part]).items()}
        metrics[f"{name}.auroc"] = MeanAUROC(K)
    return metrics


def data(n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    target = torch.randint(-1, 2, (n, K), generator=generator)
    return torch.rand(n, K, generator=generator), torch.randint(0, K, (n,), generator=generator), target


def measure(n: int, rank: int, ranks: int) -> dict[str, Any]:
    """Return what one rank computes for n images in total; it has at least one batch, which may be empty."""
    probabilities, labels, target = data(n)
    own = torch.arange(n)[rank::ranks]
    result = {}
    for name, metric in build().items():
        for rows in own.split(4) if len(own) else [own]:
            update([metric], probabilities[rows], (labels if name.startswith("multiclass") else target)[rows])
        result[name] = metric.compute().tolist()
        if hasattr(metric, "defined"):
            result[f"{name}.defined"] = metric.defined.tolist()
    return result


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)  # the pool of threads does not survive the fork
    soon, store = datetime.timedelta(seconds=30), f"file://{folder}/store"
    distributed.init_process_group("gloo", timeout=soon, init_method=store, rank=rank, world_size=RANKS)
    torch.save({n: measure(n, rank, RANKS) for n in (9, 1)}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_an_uneven_split_and_an_empty_rank_give_the_numbers_of_one_process() -> None:
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(work, (folder,), nprocs=RANKS, start_method="fork")
        results = [torch.load(f"{folder}/{rank}.pt") for rank in range(RANKS)]
    for n in (9, 1):  # 5 + 4 images, 1 + 0 images
        alone = measure(n, rank=0, ranks=1)
        assert len(alone) == 17 + 5
        for result in results:
            np.testing.assert_equal(result[n], alone)
