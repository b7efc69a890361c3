import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from tasks import Data, K, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics.classification import MulticlassAccuracy

from fovea.data.loading.dataset import Batch
from fovea.task import ClassificationTask


def make(optimizer: Any = None, **options: Any) -> ClassificationTask:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "network": nn.Sequential(nn.Flatten(), nn.Linear(12, 3)),
        "metrics": {"score": MulticlassAccuracy(3)},
        "per_class_metrics": {"score": MulticlassAccuracy(3, average="none")},
        "optimizer": optimizer or functools.partial(SGD, lr=0.1),
        "monitor": "val/score",
        "config": {"a": 1},
    }
    return make_task(**arguments | options)


def batch(targets: Tensor) -> Batch:
    n = len(targets)
    images = torch.randn(n, 3, 2, 2, generator=torch.Generator().manual_seed(n))
    return Batch(images, targets, torch.arange(n), torch.tensor([], dtype=torch.long))


def test_a_plateau_schedule_follows_the_monitor() -> None:
    def plateau(optimizer: Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, mode="max")

    schedule = make(schedule=plateau).configure_optimizers()["lr_scheduler"]
    assert (schedule["monitor"], schedule["interval"]) == ("val/score", "epoch")


def test_a_checkpoint_keeps_the_config_and_among_its_weights_no_metric() -> None:
    task = make()
    checkpoint: dict[str, Any] = {}
    task.trainer = Trainer(logger=False, accelerator="cpu")
    task.on_save_checkpoint(checkpoint)
    assert checkpoint["config"] == {"a": 1}
    assert set(task.state_dict()) == {"network.1.weight", "network.1.bias"}


def test_weights_of_other_shapes_are_refused_with_the_first_that_differs(tmp_path: Path) -> None:
    data, file = Data(make_batches(2), make_batches(1)), tmp_path / "one.ckpt"
    trainer = make_trainer(max_epochs=1)
    trainer.fit(make_task(), datamodule=data)
    trainer.save_checkpoint(file)
    other = network()
    other[5] = nn.Linear(4 * 9, K + 1)
    with pytest.raises(
        ValueError, match=r"one\.ckpt: network\.5\.weight is \(3, 36\) in the checkpoint and \(4, 36\) in"
    ):
        make_trainer(max_epochs=2).fit(make_task(network=other), datamodule=data, ckpt_path=file, weights_only=True)


def test_lbfgs_really_steps() -> None:
    from torch.utils.data import DataLoader

    task = make(optimizer=functools.partial(LBFGS, lr=1.0, line_search_fn="strong_wolfe"))
    one = batch(torch.tensor([0, 1, 2, 0, 1, 2]))
    before = nn.functional.cross_entropy(task(one.images), one.targets).item()
    loader: DataLoader[Any] = DataLoader([0], collate_fn=lambda _: one)  # type: ignore[arg-type]
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(task, loader)  # type: ignore[arg-type]
    after = nn.functional.cross_entropy(task(one.images), one.targets).item()
    assert after < before / 4
