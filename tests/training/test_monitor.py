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
        ("val/ema_accuracy", "max"),
        ("val/no_loss_of_sharpness", "max"),
        ("val/loss", "min"),
        ("val/ema_loss", "min"),
    ],
)
def test_the_metric_says_whether_its_monitor_should_rise_or_fall(monitor: str, mode: str) -> None:
    assert mode_of(monitor, None, METRICS) == mode


def test_a_metric_that_improves_has_the_mode_that_calls_it_better() -> None:
    """Whatever `higher_is_better` is called: right predictions against wrong ones."""
    right, wrong = torch.eye(3).clamp(0.01, 0.98), torch.eye(3).roll(1, 0).clamp(0.01, 0.98)
    for name in ("accuracy", "ece"):
        metric: Metric = METRICS[name].clone()
        good, bad = metric(right, torch.arange(3)), metric(wrong, torch.arange(3))
        assert (good > bad) == (mode_of(f"val/{name}", None, METRICS) == "max")


def test_where_the_metric_does_not_say_it_the_mode_is_asked_for() -> None:
    with pytest.raises(ValueError, match="monitor=val/counts: MulticlassStatScores doesn't say .*\ntype mode=max or"):
        mode_of("val/counts", None, METRICS)
    assert mode_of("val/counts", "min", METRICS) == "min"


def test_a_typed_mode_that_contradicts_the_metric_wins_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert mode_of("val/ece", "min", METRICS) == "min"
        assert not caplog.messages
        assert mode_of("val/ece", "max", METRICS) == "max"
    assert caplog.messages == ["mode=max, but lower values of monitor=val/ece are better, as its metric says"]


def test_a_runs_config_has_the_mode_that_was_found(trained_once: tuple[Path, Path]) -> None:
    config = yaml.safe_load((trained_once[0] / "resolved.yaml").read_text())
    assert (config["mode"], config["callbacks"]["best"]["mode"]) == ("max", "max")
    assert saved.load("", trained_once[0])["mode"] == "max"


@pytest.mark.parametrize(
    ("words", "mode"),
    [([], "max"), (["monitor=val/accuracy"], "max"), (["monitor=val/loss"], None)],
)
def test_a_run_that_goes_on_with_another_monitor_asks_its_metric_again(
    trained_once: tuple[Path, Path], words: list[str], mode: str | None
) -> None:
    overrides: list[Any] = OverridesParser.create().parse_overrides([*words, "force=true"])
    base, _ = command._saved_run("resume", trained_once[0], overrides)
    assert base["mode"] == mode
