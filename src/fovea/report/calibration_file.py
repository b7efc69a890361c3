"""A run's calibration.json: what was fitted on its validation split, and how predictions use it."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fovea.files import read_json
from fovea.report.statistics.calibration import apply_temperature

FILE = "calibration.json"


class Fitted(NamedTuple):
    """What was fitted on the validation split.

    Attributes:
        temperature: of the logits.
        reject: for one label an image: {"threshold": of the calibrated confidence, "coverage": the share of validation
            images that it keeps, "accuracy": of those}; None for several labels.
        thresholds: for several labels, (K,): of each class's probability before any temperature; None for one label.
    """

    temperature: float
    reject: dict[str, float] | None
    thresholds: list[float] | None

    @property
    def reject_threshold(self) -> float:
        """The confidence below which an image is rejected."""
        assert self.reject is not None
        return self.reject["threshold"]

    def tuned(self, calibrated: bool) -> Tensor:
        """Return the thresholds (K,); those of calibrated probabilities choose the same classes."""
        assert self.thresholds is not None
        thresholds = torch.tensor(self.thresholds)
        return apply_temperature(thresholds[None], self.temperature, "multilabel")[0] if calibrated else thresholds


def read(run: Path, wanted: str) -> Fitted:
    """Read the file of a run.

    Args:
        run: the run's folder.
        wanted: the override that needs it, for the error.

    Raises:
        ValueError: the run has no such file, or it is damaged.
    """
    file = run / FILE
    if not file.is_file():
        raise ValueError(
            f"{wanted}: {run} has no {FILE}: it was trained with report=false, did not reach its test, or was "
            "tested on its validation images"
        )
    content: dict[str, Any] = read_json(
        file, {"temperature": float, "reject": dict | None, "thresholds": list | None}, "train again, or leave it out"
    )
    return Fitted(content["temperature"], content.get("reject"), content.get("thresholds"))


def calibrated(fitted: Fitted, probabilities: Tensor, task: Literal["multiclass", "multilabel"]) -> Tensor:
    """Return the probabilities (N, K) of the logits divided by the temperature."""
    return apply_temperature(probabilities, fitted.temperature, task)
