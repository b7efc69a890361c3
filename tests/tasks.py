"""A small classifier with BatchNorm and its batches, for tests that drive Lightning without the command line."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR
from torchmetrics.classification import MulticlassAccuracy

from fovea.data.loading.dataset import Batch
from fovea.objectives.supervised import supervised
from fovea.task import ClassificationTask
from fovea.training.optimization import Optimization

K = 3


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4 * 9, K))


def make_task(**options: Any) -> ClassificationTask:
    arguments: dict[str, Any] = {
        "task": "multiclass",
        "network": network(),
        "preprocess": nn.Identity(),
        "mixing": lambda images, target: (images, target),
        "loss": nn.CrossEntropyLoss(),
        "objective": lambda loss: functools.partial(supervised, loss=loss),
        "metrics": {"accuracy": MulticlassAccuracy(K, average="micro")},
        "per_class_metrics": {"recall": MulticlassAccuracy(K, average="none")},
        "seed": 0,
        "config": {},
    }
    optimization: dict[str, Any] = {
        "optimizer": functools.partial(SGD, lr=0.1, momentum=0.9, weight_decay=1e-3),
        "parameter_groups": lambda network: list(network.parameters()),
        "schedule": lambda optimizer: ConstantLR(optimizer, 1.0),
        "interval": "epoch",
        "monitor": "val/accuracy",
    }
    optimization |= {name: options.pop(name) for name in optimization.keys() & options.keys()}
    return ClassificationTask(**arguments | options, optimization=Optimization(**optimization))


def make_batches(count: int, size: int = 5, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return [batch(torch.randint(0, K, (size,), generator=generator), seed + i) for i in range(count)]


def batch(targets: Tensor, seed: int = 0) -> Batch:
    n = len(targets)
    images = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Batch(images, targets, torch.arange(n), torch.tensor([], dtype=torch.long))


class Data(LightningDataModule):
    """The same batches every epoch; a resumed epoch goes on in their midst, as TrainLoader does."""

    def __init__(self, train: Sequence[Batch], val: Sequence[Batch] = ()) -> None:
        super().__init__()
        self.train, self.val = train, val

    def train_dataloader(self) -> Any:
        assert self.trainer is not None
        return Rest(self.train, self.trainer)

    def training_images(self) -> Iterator[Tensor]:
        yield from (batch.images for batch in self.train)

    def val_dataloader(self) -> Any:
        return Batches(self.val)

    test_dataloader = val_dataloader


class Batches:
    """One loader; a list would be many."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)


class Rest:
    def __init__(self, batches: Sequence[Batch], trainer: Trainer) -> None:
        self.batches, self.trainer = batches, trainer

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total.completed % len(self.batches)
        yield from self.batches[done:]


def make_trainer(*callbacks: Callback, folder: Path | None = None, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    plain = {"accelerator": "cpu", "enable_checkpointing": False, "num_sanity_val_steps": 0}
    options = quiet | plain | {"use_distributed_sampler": False} | options
    return Trainer(callbacks=list(callbacks), default_root_dir=folder, **options)


def half() -> MixedPrecision:
    """float16 with a GradScaler, as on a GPU; Lightning takes bfloat16 on a CPU unless it is given this plugin."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3))
