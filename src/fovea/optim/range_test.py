"""The learning-rate range test: the loss of a training whose rate rises exponentially, and the rates that it suggests.

Source: Smith 2017, https://arxiv.org/abs/1506.01186, section 3.3; the exponential rise, the smoothing and the two
suggestions are those of fastai. Deviation: Smith's rate rises linearly.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback, Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

DIVERGED = 4.0  # the test ends when the smoothed loss is this many times its least value
SMOOTHING = 0.9  # share of the running mean that each step keeps
LEAST_STEPS = 10  # that a suggestion needs


class Suggestion(NamedTuple):
    """Rates for a training: where the loss falls fastest, and a tenth of the rate of its minimum."""

    steepest: float
    tenth_of_minimum: float


def rising_rates(lowest: float, highest: float, steps: int) -> np.ndarray:
    """Return r_s = lowest (highest / lowest)^(s / (S - 1)) for s = 0 ... S - 1, (S,) float64."""
    return np.geomspace(lowest, highest, steps)


def rising_schedule(rates: np.ndarray, rate: float) -> Callable[[Optimizer], LambdaLR]:
    """Return a schedule that gives a group with the rate `rate` the rates (S,), and others the same multiples."""
    return lambda optimizer: LambdaLR(optimizer, lambda step: float(rates[min(step, len(rates) - 1)] / rate))


def smoothed(losses: np.ndarray, share: float = SMOOTHING) -> np.ndarray:
    """Return m_s / (1 - share^s) with m_s = share m_(s-1) + (1 - share) loss_s and m_0 = 0; (S,)."""
    means, mean = np.empty(len(losses)), 0.0
    for n, loss in enumerate(losses):
        mean = share * mean + (1 - share) * loss
        means[n] = mean / (1 - share ** (n + 1))
    return means


def suggestion(rates: np.ndarray, means: np.ndarray) -> Suggestion:
    """Choose rates by the smoothed losses `means` (S,) at the `rates` (S,).

    The loss's slope is taken by the logarithm of the rate, up to the minimum.

    Raises:
        ValueError: there are too few losses, or they do not fall.
    """
    least = int(means.argmin()) if len(means) else 0
    if len(means) < LEAST_STEPS or least < 2:
        raise ValueError(
            f"the loss did not fall in {len(means)} steps at rates from {rates[0]:g} to {rates[len(means) - 1]:g}: "
            "change lowest_lr, highest_lr or steps"
        )
    slopes = np.gradient(means, np.log(rates))[: least + 1]
    return Suggestion(float(rates[slopes.argmin()]), float(rates[least]) / 10)


class RecordLosses(Callback):
    """Records the mean loss of each optimizer step, and stops the training when the loss is not finite or diverges.

    Attributes:
        losses: of the optimizer steps, each the mean over its batches. `pl_module` is a ClassificationTask.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.of_step: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.counted:
            self.of_step.append(pl_module.batch_loss)
        if trainer.global_step <= len(self.losses) or not self.of_step:
            return
        loss = torch.stack(self.of_step).mean().item()
        self.of_step = []
        self.losses.append(loss)
        means = smoothed(np.array(self.losses))
        if not np.isfinite(loss) or means[-1] > DIVERGED * np.nanmin(means):
            trainer.should_stop = True

    def finite(self) -> np.ndarray:
        """Return the losses up to the first that is not finite, (S,)."""
        losses = np.array(self.losses)
        bad = np.flatnonzero(~np.isfinite(losses))
        return losses[: bad[0]] if len(bad) else losses
