from typing import Any

import pytest
from omegaconf import DictConfig

from fovea.cli.sweep_direction import direction

METRICS = {
    "accuracy": {"_target_": "torchmetrics.classification.MulticlassAccuracy"},
    "ece": {"_target_": "torchmetrics.classification.MulticlassCalibrationError"},
    "top5": {"_target_": "fovea.metrics.top_k.top_k_accuracy"},
}


def found(monitor: str, *words: str, mode: str | None = None, **sweeper: Any) -> list[str]:
    sweeper = sweeper or {"direction": None}
    cfg = {"monitor": monitor, "mode": mode, "metrics": METRICS, "hydra": {"sweeper": sweeper}}
    return direction(DictConfig(cfg), words)


@pytest.mark.parametrize(
    ("monitor", "said"),
    [
        *(("val/accuracy", "maximize"), ("val/ece", "minimize"), ("val/loss", "minimize")),
        *(("val/ema_ece", "minimize"), ("val/ema_loss", "minimize")),
    ],
)
def test_an_optimizing_sweeps_direction_follows_the_metrics_higher_is_better(monitor: str, said: str) -> None:
    assert found(monitor) == found(monitor, direction="minimize") == [f"hydra.sweeper.direction={said}"]


def test_the_typed_mode_has_precedence_and_is_required_for_a_metric_made_by_a_function() -> None:
    assert found("val/ece", mode="max") == ["hydra.sweeper.direction=maximize"]
    with pytest.raises(ValueError, match=r"monitor=val/top5 is built by a target that has no .*\ntype mode=max"):
        found("val/top5")
    assert found("val/top5", mode="max") == ["hydra.sweeper.direction=maximize"]


def test_a_typed_direction_and_sweepers_without_a_direction_are_not_changed() -> None:
    assert found("val/ece", "hydra.sweeper.direction=maximize") == []
    assert found("val/ece", direction=["minimize", "maximize"]) == []
    assert found("val/ece", max_batch_size=None) == []
