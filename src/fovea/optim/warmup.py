"""A warm-up before any schedule of learning rates."""

from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


def warmup_factor(step: int, length: int, shape: Literal["linear", "constant"], start_factor: float | None) -> float:
    """Return the factor of the schedule's first rate at a step or epoch s < W of a warm-up of W = length.

    Constant: f; linear: f + (1 - f) s / W, with f = start_factor; None stands for f = 1 / (W + 1), so that the linear
    factor is (s + 1) / (W + 1). From W on the factor is 1.

    Source: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.2. The values are those of torch's LinearLR
    and ConstantLR. Deviation: the default start is not 0, as a step with a rate of 0 would be lost.
    """
    if step >= length:
        return 1.0
    first = 1 / (length + 1) if start_factor is None else start_factor
    return first if shape == "constant" else first + (1 - first) * step / length


class Warmup(LRScheduler):
    """Multiplies a schedule's first learning rates by the warm-up's factor, and then runs the schedule from its start.

    torch's SequentialLR can't do this for every schedule: it steps a nested SequentialLR or ChainedScheduler with an
    argument that they don't take, and a ReduceLROnPlateau without its figure. Momentum stays at the schedule's first.

    Attributes:
        last_epoch: the number of steps or epochs so far, those of the warm-up included.
    """

    def __init__(self, schedule: Any, length: int, factor: Callable[[int], float]) -> None:
        """Args:
        schedule: one of torch's, new, with its optimizer.
        length: the warm-up's, in the schedule's unit, >= 0.
        factor: (the step or epoch) -> the warm-up's factor; 1 at `length`.
        """
        self.schedule, self.length, self.factor = schedule, length, factor
        self.optimizer: Optimizer = schedule.optimizer
        self.first_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.last_epoch = 0
        self._warm()

    @property
    def warming(self) -> bool:
        """Return True if the next call of `step` belongs to the warm-up, so that it uses no figure.

        The warm-up of a run that is prolonged is longer; it does not begin again once a plateau schedule has begun.
        """
        return self.last_epoch < self.length and not (self.is_plateau and self.schedule.last_epoch)

    @property
    def is_plateau(self) -> bool:
        """Return True if the schedule needs the monitor's value in `step`."""
        return isinstance(self.schedule, ReduceLROnPlateau)

    def step(self, *figure: Any) -> None:
        """Go on by one step or epoch. `figure` is the monitor's value for a plateau schedule."""
        warming = self.warming
        self.last_epoch += 1
        if warming:
            self._warm()
        else:
            self.schedule.step(*figure)

    def _warm(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * self.factor(self.last_epoch)

    def get_last_lr(self) -> list[Any]:
        """Return the current rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_epoch = state_dict["last_epoch"]
        self.schedule.load_state_dict(state_dict["schedule"])


def with_warmup(
    optimizer: Optimizer,
    schedule: Callable[[Optimizer], Any],
    shape: Literal["linear", "constant"],
    length: int,
    start_factor: float | None,
) -> Warmup:
    """Return the schedule with a warm-up of `length` steps or epochs before it; see `warmup_factor`."""
    return Warmup(schedule(optimizer), length, lambda step: warmup_factor(step, length, shape, start_factor))
