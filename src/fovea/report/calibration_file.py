"""A run's calibration.json: what was fitted on its validation split, and how predictions use it."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fovea.files import read_json
from fovea.report.statistics.calibration import apply_temperature
from fovea.runs.figure_names import average_of

FILE = "calibration.json"


class Used(NamedTuple):
    """What predictions are made with.

    Attributes:
        checkpoint: the file's name.
        step: the optimizer steps of its training so far; None: not known.
        run_dir: the folder that its run had in its training; None: not known.
        monitor: says whether averaged weights predict.
        eval_image_size: of the images, in pixels.
    """

    checkpoint: str
    step: int | None
    run_dir: str | None
    monitor: str
    eval_image_size: int


class Fitted(NamedTuple):
    """What was fitted on the validation split.

    Attributes:
        temperature: of the logits.
        reject: for one label an image: {"threshold": of the calibrated confidence, "coverage": the share of validation
            images that it keeps, "accuracy": of those}; None for several labels.
        thresholds: for several labels, (K,): of each class's probability before any temperature; None for one label.
        fitted_to: the predictions; None: not known, as in a run of another version.
    """

    temperature: float
    reject: dict[str, float] | None
    thresholds: list[float] | None
    fitted_to: Used | None

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
    kinds = {"temperature": float, "reject": dict | None, "thresholds": list | None, "fitted_to": dict | None}
    content: dict[str, Any] = read_json(file, kinds, "train again, or leave it out")
    used = content.get("fitted_to")
    fitted_to = Used(**used) if used and used.keys() == {*Used._fields} else None  # other fields in another version
    return Fitted(content["temperature"], content.get("reject"), content.get("thresholds"), fitted_to)


def other_use(fitted: Fitted, now: Used) -> str:
    """Return how predictions differ from those that the values were fitted to; an empty text if they don't.

    The same step of the same run has the same weights, whatever the file is called.
    """
    then, texts = fitted.fitted_to, list[str]()
    if then is None:
        return ""
    if (then.step, then.run_dir) != (now.step, now.run_dir):
        texts.append(f"{_weights(then, then.step == now.step)}, not {_weights(now, then.step == now.step)}")
    if average_of(then.monitor) != average_of(now.monitor):
        texts.append(f"the weights of monitor={then.monitor}, not of {now.monitor}")
    if then.eval_image_size != now.eval_image_size:
        texts.append(f"data.eval_image_size={then.eval_image_size}, not {now.eval_image_size}")
    return "; ".join(texts)


def _weights(used: Used, with_run: bool) -> str:
    text = f"{used.checkpoint} of {'an unknown step' if used.step is None else f'step {used.step}'}"
    return f"{text} of {used.run_dir or 'an unknown run'}" if with_run else text


def calibrated(fitted: Fitted, probabilities: Tensor, task: Literal["multiclass", "multilabel"]) -> Tensor:
    """Return the probabilities (N, K) of the logits divided by the temperature."""
    return apply_temperature(probabilities, fitted.temperature, task)
