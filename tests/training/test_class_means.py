"""Means over classes and undefined figures are logged, and undefined figures neither choose nor stop anything."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tasks import Data, K, make_batches, make_task, make_trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

from fovea.callbacks.early_stopping import EarlyStopping
from fovea.callbacks.finite_loss import finite_loss
from fovea.data.loading.dataset import Batch
from fovea.losses.bce import BinaryCrossEntropy
from fovea.metrics.average_precision import MeanAveragePrecision
from fovea.metrics.precision_recall import MacroF1
from fovea.training.class_means import log_left_out_classes
from fovea.training.save_best import SaveBest


def measured(*columns: list[int]) -> dict[str, Metric]:
    """Return macro F1 and mAP of perfect predictions; each column has the targets of a class."""
    target = torch.tensor(columns).T
    metrics: dict[str, Metric] = {"val/f1": MacroF1(len(columns)), "val/mAP": MeanAveragePrecision(len(columns))}
    for metric in metrics.values():
        metric.update((target == 1).float(), target)
        metric.compute()
    return metrics


def test_the_log_has_the_number_of_classes_in_a_mean_and_those_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_left_out_classes(measured([1, 0], [-1, -1], [0, 0], [1, 1]), ["cat", "dog", "owl", "fox"])
    assert caplog.messages == [
        "val/f1 is the mean over 2 of 4 classes; left out are classes without a positive label or prediction "
        "among the known ones: dog, owl",
        "val/mAP is the mean over 2 of 4 classes; left out are classes without a known positive label: dog, owl",
    ]


def test_nothing_is_logged_for_a_mean_over_all_classes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_left_out_classes(measured([1, 0], [0, 1]), ["cat", "dog"])
    assert not caplog.messages


def test_a_long_list_of_classes_is_shortened(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_left_out_classes(measured([1, 0], *[[-1, -1]] * 25), None)
    assert caplog.messages[0].endswith(": 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 15 more")


def multilabel(batches: list[Batch], value: int | None = None) -> list[Batch]:
    """Return the batches with one-hot targets, or with `value` for every label."""
    targets = [torch.nn.functional.one_hot(one.targets, K).float() for one in batches]
    return [
        one._replace(targets=target if value is None else torch.full_like(target, value))
        for one, target in zip(batches, targets, strict=True)
    ]


def fit(folder: Path, val: list[Batch], epochs: int) -> tuple[Any, Any, SaveBest, EarlyStopping]:
    """Train with early stopping, a plateau schedule and a best checkpoint that all follow mAP, without patience."""
    metrics = {"mAP": MeanAveragePrecision(K), "f1": MacroF1(K)}
    plateau = lambda optimizer: ReduceLROnPlateau(optimizer, mode="max", patience=0)  # noqa: E731
    parts: dict[str, Any] = {"metrics": metrics, "per_class_metrics": {}, "schedule": plateau}
    task = make_task(task="multilabel", loss=BinaryCrossEntropy(), monitor="val/mAP", **parts)
    best, stopping = SaveBest(str(folder), "val/mAP", "max"), EarlyStopping("val/mAP", mode="max", patience=1)
    callbacks = (finite_loss("stop", str(folder)), best, stopping)
    trainer = make_trainer(*callbacks, max_epochs=epochs, enable_checkpointing=True)
    trainer.fit(task, datamodule=Data(multilabel(make_batches(2)), val))
    return task, trainer, best, stopping


def test_if_no_validation_label_is_known_nothing_follows_the_monitor_and_one_warning_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task, trainer, best, stopping = fit(tmp_path, multilabel(make_batches(2, seed=9), -1), epochs=3)
    assert trainer.current_epoch == 3
    assert stopping.wait_count == 0
    assert task.optimizers().param_groups[0]["lr"] == 0.1
    assert all(trainer.callback_metrics[name].isnan() for name in ("val/mAP", "val/f1", "val/loss"))
    assert torch.load(best.file, weights_only=True)["epoch"] == 2  # the latest, as all figures are undefined
    messages = [message for message in caplog.messages if "undefined" in message]
    assert (
        messages[0]
        == "undefined with the labels of these images (nan; null in results.json): val/f1, val/loss, val/mAP"
    )
    assert messages[1].startswith("val/mAP is the monitor: while it is undefined, ")
    assert len(messages) == 2


def test_while_only_the_monitor_is_undefined_the_lowest_loss_is_the_best(tmp_path: Path) -> None:
    """All labels are 0 (absent): the loss is defined, but average precision is not."""
    _, trainer, best, stopping = fit(tmp_path, multilabel(make_batches(2, seed=9), 0), epochs=3)
    assert (trainer.current_epoch, stopping.wait_count) == (3, 0)
    saved = torch.load(best.file, weights_only=True)
    assert trainer.callback_metrics["val/loss"].isfinite()
    assert best.loss is not None
    assert best.loss <= trainer.callback_metrics["val/loss"].item()
    assert saved["epoch"] in range(3)
