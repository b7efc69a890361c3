import functools
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Optimizer
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau
from torchmetrics.classification import MulticlassAccuracy, MultilabelF1Score

from fovea.data.loading.dataset import Batch
from fovea.losses.bce import BinaryCrossEntropy
from fovea.task import ClassificationTask


def make(
    kind: Any = "multiclass", loss: nn.Module | None = None, optimizer: Any = None, **options: Any
) -> ClassificationTask:
    torch.manual_seed(0)
    metric = MulticlassAccuracy(3) if kind == "multiclass" else MultilabelF1Score(3, ignore_index=-1)
    arguments: dict[str, Any] = {
        "task": kind,
        "network": nn.Sequential(nn.Flatten(), nn.Linear(12, 3)),
        "preprocess": nn.Identity(),
        "mixing": lambda images, target: (images, target),
        "loss": loss or nn.CrossEntropyLoss(),
        "metrics": {"score": metric},
        "per_class_metrics": {"score": MulticlassAccuracy(3, average="none")},
        "optimizer": optimizer or functools.partial(SGD, lr=0.1),
        "parameter_groups": lambda network: list(network.parameters()),
        "scheduler": lambda optimizer: ConstantLR(optimizer, 1.0),
        "interval": "epoch",
        "monitor": "val/score",
        "seed": 0,
        "config": {"a": 1},
    }
    return ClassificationTask(**arguments | options)


def batch(targets: Tensor) -> Batch:
    n = len(targets)
    images = torch.randn(n, 3, 2, 2, generator=torch.Generator().manual_seed(n))
    return Batch(images, targets, torch.arange(n), torch.tensor([], dtype=torch.long))


def validate(task: ClassificationTask, *batches: Batch) -> float:
    task.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    for one in batches:
        task.validation_step(one, 0)
    return task.losses["val_"].compute().item()


def test_the_loss_of_an_epoch_is_the_mean_over_its_images_not_over_its_batches() -> None:
    task, one, two = make(), batch(torch.tensor([0, 1, 2, 0, 1])), batch(torch.tensor([2]))
    logits = torch.cat([task(one.images), task(two.images)])
    expected = nn.functional.cross_entropy(logits, torch.cat([one.targets, two.targets]))
    assert validate(task, one, two) == pytest.approx(expected.item())


def test_the_loss_of_a_multilabel_epoch_is_the_mean_over_what_is_known() -> None:
    task = make("multilabel", BinaryCrossEntropy())
    one, two = batch(torch.tensor([[1.0, 0, -1], [-1, -1, -1]])), batch(torch.tensor([[0.0, 1, 1]]))
    entries = []
    for one_batch in (one, two):
        for row, target in zip(task(one_batch.images).sigmoid(), one_batch.targets, strict=True):
            entries += [-(p.log() if t else (1 - p).log()).item() for p, t in zip(row, target, strict=True) if t >= 0]
    assert len(entries) == 5
    assert validate(task, one, two) == pytest.approx(sum(entries) / 5)


def test_a_batch_without_images_changes_neither_loss_nor_metric() -> None:
    one, nothing = batch(torch.tensor([0, 1])), batch(torch.tensor([], dtype=torch.long))
    assert validate(make(), one, nothing) == validate(make(), one)


def test_probabilities_are_a_softmax_or_a_sigmoid() -> None:
    logits = torch.randn(4, 3).half()
    torch.testing.assert_close(make().probabilities(logits), logits.float().softmax(1))
    torch.testing.assert_close(make("multilabel").probabilities(logits), logits.float().sigmoid())


def test_mixed_labels_are_measured_by_their_heaviest_class() -> None:
    task = make()
    mixed = torch.tensor([[0.2, 0.8, 0.0], [0.6, 0.0, 0.4]])
    assert task._labels(mixed).tolist() == [1, 0]


def test_a_plateau_schedule_follows_the_monitor() -> None:
    def plateau(optimizer: Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, mode="max")

    schedule = make(scheduler=plateau).configure_optimizers()["lr_scheduler"]
    assert (schedule["monitor"], schedule["interval"]) == ("val/score", "epoch")


def test_a_checkpoint_keeps_the_config_and_among_its_weights_no_metric() -> None:
    task = make()
    checkpoint: dict[str, Any] = {}
    task.trainer = Trainer(logger=False, accelerator="cpu")
    task.on_save_checkpoint(checkpoint)
    assert checkpoint["config"] == {"a": 1}
    assert set(task.state_dict()) == {"network.1.weight", "network.1.bias"}


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
