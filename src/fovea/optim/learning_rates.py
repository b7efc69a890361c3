"""Computes the learning rates of a run before it: the schedule is stepped as in a training, without training."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fovea.optim.warmup import Warmup


def learning_rates(
    schedule: Any, interval: Literal["epoch", "step"], steps: int, epoch_of: Callable[[int], int]
) -> np.ndarray:
    """Return the learning rate of each optimizer step and parameter group, (S, G) float64; changes the schedule.

    A plateau schedule depends on the validations and is not stepped after its warm-up.

    Args:
        schedule: one of torch's, new, with its optimizer.
        interval: when the schedule steps.
        steps: S, the run's optimizer steps.
        epoch_of: (optimizer step) -> its epoch; both are counted from 0.
    """
    units = np.arange(steps) if interval == "step" else np.array([epoch_of(step) for step in range(steps)])  # (S,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer makes no step
        rates = np.array([_next(schedule, first=not n) for n in range(units[-1] + 1)])  # (units, G)
    return rates[units]


def _next(schedule: Any, first: bool) -> list[float]:
    """Step the schedule, unless this is the first rate, and return the rate of each group."""
    warmed = schedule.schedule if isinstance(schedule, Warmup) and not schedule.warming else schedule
    if not first and not isinstance(warmed, ReduceLROnPlateau):
        schedule.step()
    return [float(group["lr"]) for group in schedule.optimizer.param_groups]
