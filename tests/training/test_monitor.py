import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassStatScores

from fovea.cli import command
from fovea.config import saved
from fovea.training.monitor import mode_of

METRICS = {
    "accuracy": MulticlassAccuracy(3),
    "ece": MulticlassCalibrationError(3),
    "no_loss_of_sharpness": MulticlassAccuracy(3),
    "counts": MulticlassStatScores(3),
}


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("val/accuracy", "max"),
        ("val/ece", "min"),
        ("train/ece", "min"),
        ("val/ema_ece", "min"),
        ("val/swa_ece", "min"),
        ("val/ema_accuracy", "max"),
        ("val/no_loss_of_sharpness", "max"),
        ("val/loss", "min"),
        ("val/ema_loss", "min"),
    ],
)
def test_the_mode_follows_the_metrics_higher_is_better(monitor: str, mode: str) -> None:
    assert mode_of(monitor, None, METRICS) == mode


def test_the_mode_agrees_with_the_values_of_right_and_wrong_predictions() -> None:
    """The test doesn't use `higher_is_better`, but compares right predictions with wrong ones."""
    right, wrong = torch.eye(3).clamp(0.01, 0.98), torch.eye(3).roll(1, 0).clamp(0.01, 0.98)
    for name in ("accuracy", "ece"):
        metric: Metric = METRICS[name].clone()
        good, bad = metric(right, torch.arange(3)), metric(wrong, torch.arange(3))
        assert (good > bad) == (mode_of(f"val/{name}", None, METRICS) == "max")


def test_a_metric_without_a_direction_needs_a_configured_mode() -> None:
    with pytest.raises(ValueError, match="monitor=val/counts: MulticlassStatScores doesn't define .*\nset mode=max or"):
        mode_of("val/counts", None, METRICS)
    assert mode_of("val/counts", "min", METRICS) == "min"


def test_a_configured_mode_that_contradicts_the_metric_is_used_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert mode_of("val/ece", "min", METRICS) == "min"
        assert not caplog.messages
        assert mode_of("val/ece", "max", METRICS) == "max"
    assert caplog.messages == [
        "mode=max, but by its metric's higher_is_better, lower values of monitor=val/ece are better"
    ]


def test_the_config_of_a_run_has_the_mode(trained_once: tuple[Path, Path]) -> None:
    config = yaml.safe_load((trained_once[0] / "resolved.yaml").read_text())
    assert (config["mode"], config["callbacks"]["best"]["mode"]) == ("max", "max")
    assert saved.load("", trained_once[0])["mode"] == "max"


@pytest.mark.parametrize(
    ("words", "mode"),
    [([], "max"), (["monitor=val/accuracy"], "max"), (["monitor=val/loss"], None)],
)
def test_a_run_that_is_resumed_with_another_monitor_finds_its_mode_again(
    trained_once: tuple[Path, Path], words: list[str], mode: str | None
) -> None:
    overrides: list[Any] = OverridesParser.create().parse_overrides([*words, "force=true"])
    base, _ = command._saved_run("resume", trained_once[0], overrides)
    assert base["mode"] == mode
