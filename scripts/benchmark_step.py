"""Compare the time of a training step: a bare PyTorch loop, a plain LightningModule, and train.py.

    python scripts/benchmark_step.py [--rounds 9] [--threads 2] [--accelerator cpu]

All train the same network on the same batches, which are in memory: reading images is measured by
scripts/benchmark_data.py. The bare loop computes its loss and no metrics. The LightningModule logs the loss and
train.py's metrics with `self.log` in every step, as is usual. Both Lightning candidates write to their loggers every 10
steps; neither shows a progress bar.

Each round trains every candidate once, in turn, in this process. A candidate's speed is the bare loop's time divided by
its own in the same round: 1 means as fast as the bare loop. Medians, minima and maxima over the rounds are printed. The
start and the end of an epoch are not counted. On a shared machine, --cpu-time counts CPU time instead of wall time.
"""

import argparse
import logging
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import lightning
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from fovea import build
from fovea.config.resolvers import CONF, register_resolvers
from fovea.data.loading.dataset import Batch

CLASSES, PIXELS = 10, 32
DISTINCT = 8  # batches that are held in memory
WARM_UP = 3  # steps that are not counted
LINEAR = {
    "_target_": "torch.nn.Sequential",
    "_args_": [
        {"_target_": "torch.nn.Flatten"},
        {"_target_": "torch.nn.Linear", "in_features": 3 * PIXELS**2, "out_features": CLASSES},
    ],
}


class Case(NamedTuple):
    """A network and its batches; `model` is a config node, or None for conf/model/se_resnet_small.yaml."""

    title: str
    batch_size: int
    steps: int
    model: dict[str, Any] | None


CASES = {
    "se_resnet": Case(f"SE-ResNet-18 (model=se_resnet_small: 16 channels), {PIXELS}x{PIXELS}, batch 128", 128, 8, None),
    "linear": Case("linear network, batch 32", 32, 300, LINEAR),
}


class Batches:
    """Yields batches from memory, and measures the time of the counted steps."""

    def __init__(self, batch_size: int, steps: int, clock: Callable[[], float]) -> None:
        random = torch.Generator().manual_seed(0)
        shape, none = (batch_size, PIXELS, PIXELS, 3), torch.tensor([], dtype=torch.long)
        self.ready = [
            Batch(
                torch.randint(0, 256, shape, dtype=torch.uint8, generator=random).permute(0, 3, 1, 2),
                torch.randint(0, CLASSES, (batch_size,), generator=random),
                torch.arange(batch_size),
                none,
            )
            for _ in range(DISTINCT)
        ]
        if torch.cuda.is_available():
            self.ready = [Batch(*(part.pin_memory() for part in batch)) for batch in self.ready]
        self.steps, self.clock, self.seconds = steps, clock, 0.0

    def __len__(self) -> int:
        return WARM_UP + self.steps + 1

    def __iter__(self) -> Iterator[Batch]:
        start = 0.0
        for n in range(len(self)):
            if n in (WARM_UP, len(self) - 1):
                start, self.seconds = now(self.clock), now(self.clock) - start
            yield self.ready[n % DISTINCT]


def now(clock: Callable[[], float]) -> float:
    """Wait until the GPU has finished its work, and return the time in seconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock()


class Plain(LightningModule):
    """A usual LightningModule."""

    def __init__(self, network: nn.Module, preprocess: nn.Module, metrics: Any) -> None:
        super().__init__()
        self.network, self.preprocess, self.metrics = network, preprocess, MetricCollection(metrics, prefix="train/")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss; log it for each step and the metrics for the epoch."""
        logits = self.network(self.preprocess(batch.images))  # (B, K)
        loss = F.cross_entropy(logits, batch.targets)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        probabilities = logits.detach().softmax(1)
        self.metrics(probabilities, batch.targets)
        self.log_dict(self.metrics, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the same optimizer as the bare loop's."""
        return sgd(self.network)


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    """Make SGD with the options of conf/optimizer/sgd.yaml."""
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


def bare(cfg: DictConfig, batches: Batches, folder: Path) -> None:
    """Train with a bare PyTorch loop."""
    device = torch.device("cpu" if cfg.trainer.accelerator == "cpu" else "cuda")
    task = build.task(cfg)
    network, preprocess = task.network.to(device).train(), task.preprocess.to(device)
    optimizer, total = sgd(network), torch.zeros((), device=device)
    for images, targets, *_ in batches:
        images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        loss = F.cross_entropy(network(preprocess(images)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()


def plain(cfg: DictConfig, batches: Batches, folder: Path) -> None:
    """Train a plain LightningModule."""
    task = build.task(cfg)
    metrics = {name: metric for name, metric in hydra.utils.instantiate(cfg.metrics).items() if metric is not None}
    trainer = Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=1,
        max_epochs=1,
        logger=CSVLogger(folder),
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Plain(task.network, task.preprocess, metrics), batches, weights_only=True)


def ours(cfg: DictConfig, batches: Batches, folder: Path) -> None:
    """Train as train.py does."""
    cfg = cfg.copy()
    cfg.run_dir = str(folder)
    data = build.datamodule(cfg)
    data.train_dataloader = lambda: batches  # type: ignore[method-assign,assignment,return-value]
    build.trainer(cfg).fit(build.task(cfg), datamodule=data)


CANDIDATES: dict[str, Callable[[DictConfig, Batches, Path], None]] = {
    "a bare PyTorch loop": bare,
    "a plain LightningModule": plain,
    "train.py": ours,
}


def composed(case: Case, accelerator: str, words: Sequence[str], folder: Path) -> DictConfig:
    """Compose train.py's config with these overrides."""
    with hydra.initialize_config_dir(str(CONF), job_name="train", version_base="1.3"):
        cfg = hydra.compose(
            "train",
            [
                "model=se_resnet_small",
                "optimizer=sgd",  # as in the other candidates
                "scheduler=step",  # once an epoch; the others have none
                f"data.root={folder}/digits",
                f"data.image_size={PIXELS}",
                f"data.batch_size={case.batch_size}",
                "trainer.max_epochs=1",
                "trainer.limit_val_batches=0",
                "trainer.enable_progress_bar=false",
                f"trainer.accelerator={accelerator}",
                *words,
            ],
        )
    if case.model is not None:
        cfg.model = case.model
    cfg.run_dir = str(folder)
    build.datamodule(cfg)  # fills in what follows from the data
    return cfg


def measure(case: Case, accelerator: str, words: Sequence[str], rounds: int, clock: Callable[[], float]) -> None:
    """Print a line for each candidate: its time for a step, and its speed relative to the bare loop."""
    taken: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        cfg = composed(case, accelerator, words, Path(scratch))
        batches = Batches(case.batch_size, case.steps, clock)
        for n in range(rounds + 1):  # the first one fills caches and is not counted
            seconds = {}
            for name, run in CANDIDATES.items():
                run(cfg, batches, Path(scratch, str(n), name))
                seconds[name] = batches.seconds / case.steps
            taken += [seconds] * (n > 0)
    print(f"\n{case.title}\n{'ms a step':>10} {'(least to most)':>20} {'speed':>8} {'(least to most)':>16}")
    for name in CANDIDATES:
        times = [1000 * one[name] for one in taken]
        speeds = [one[next(iter(CANDIDATES))] / one[name] for one in taken]
        print(f"{middle(times, 10)} {spread(times, 20)} {middle(speeds, 8)} {spread(speeds, 16)}  {name}", flush=True)


def middle(values: Sequence[float], width: int) -> str:
    """Return the median as text."""
    return f"{statistics.median(values):{width}.3f}"


def spread(values: Sequence[float], width: int) -> str:
    """Return the minimum and the maximum as text."""
    return f"{f'({min(values):.2f} to {max(values):.2f})':>{width}}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch on the CPU")
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--only", choices=list(CASES), help="measure only this network")
    parser.add_argument("--cpu-time", action="store_true", help="count this process's time on all cores, not wall time")
    parser.add_argument("overrides", nargs="*", help="more overrides for train.py, such as model.width=64")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(given.threads)
    register_resolvers()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, Lightning {lightning.__version__}"
    print(f"{platform.machine()}, {given.accelerator}, {given.threads} threads, {versions}; medians of {given.rounds}")
    if given.overrides:
        print("with", *given.overrides)
    clock = time.process_time if given.cpu_time else time.perf_counter
    for name, case in CASES.items():
        if given.only in (None, name):
            measure(case, given.accelerator, given.overrides, given.rounds, clock)


if __name__ == "__main__":
    main()
