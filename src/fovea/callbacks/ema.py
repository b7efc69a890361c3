"""An exponential moving average (EMA) of the weights, evaluated in addition to the trained weights.

Source: Polyak and Juditsky 1992; the decay's warm-up is TensorFlow's tf.train.ExponentialMovingAverage(num_updates).
Deviation: BatchNorm's running statistics are averaged like the weights, not recomputed.
"""

from typing import Any

from fovea.callbacks.averaged_weights import AveragedWeights
from fovea.models.averaging.averages import move_average


def decay_at(step: int, decay: float, warmup: int) -> float:
    """Return min(decay, (1 + step) / (warmup + step)).

    In a training that is too short for `decay`, the average covers about the last tenth of the steps.
    """
    return min(decay, (1 + step) / (warmup + step))


class EMA(AveragedWeights):
    """Updates the average after each optimizer step: a <- d a + (1 - d) w, where d is `decay_at` that step."""

    kind = "ema"

    def __init__(self, decay: float = 0.9999, warmup: int = 10) -> None:
        """`decay` is in [0, 1), `warmup` at least 1; see `decay_at`."""
        super().__init__()
        if not 0 <= decay < 1 or warmup < 1:
            raise ValueError(f"callbacks.ema: decay={decay} must be in [0, 1) and warmup={warmup} at least 1")
        self.decay, self.warmup = decay, warmup

    def update(self, pl_module: Any) -> None:
        """Move the average, unless the step did not count (a loss that is not finite, or no readable image)."""
        if pl_module.counted:
            assert self.average is not None
            move_average(self.average, pl_module.network, 1 - decay_at(self.step, self.decay, self.warmup))
