"""The optimizer of a training and the schedule of its learning rates, also in a run that is resumed."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

# What a plateau schedule knows of the run.
PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


class Optimization:
    """Makes the optimizer of a network and its schedule, and steps the schedule.

    Attributes:
        validated: whether there was a validation that the schedule has not taken into account. A plateau schedule
            takes each one into account once, but Lightning passes the last one again and again.
    """

    def __init__(
        self,
        optimizer: Callable[[Any], Optimizer],
        parameter_groups: Callable[[nn.Module], Any],
        schedule: Callable[[Optimizer], Any],
        interval: Literal["epoch", "step"],
        monitor: str,
    ) -> None:
        """Nothing is made yet.

        Args:
            optimizer: parameters or parameter groups -> optimizer.
            parameter_groups: network -> what the optimizer is given.
            schedule: optimizer -> one of torch's schedules.
            interval: when the schedule steps.
            monitor: the figure that a plateau schedule follows.
        """
        self.optimizer, self.parameter_groups, self.schedule = optimizer, parameter_groups, schedule
        self.interval, self.monitor = interval, monitor
        self.validated = False

    def configure(self, network: nn.Module) -> dict[str, Any]:
        """What Lightning's `configure_optimizers` returns."""
        optimizer = self._optimizer_of(network)
        # not strict: an epoch without a validation leaves a plateau schedule unchanged
        about = {"interval": self.interval, "monitor": self.monitor, "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule(optimizer), **about}}

    def replace(self, network: nn.Module, optimizer: Optimizer, restored: Any) -> None:
        """Bring a schedule that was restored from a checkpoint to where this one would be by now."""
        replay(optimizer, restored, self.schedule(self._optimizer_of(network)))

    def step(self, schedule: Any, value: Any | None, is_undefined: bool) -> None:
        """Step the schedule.

        Args:
            value: the monitor's last value, for a plateau schedule; None for the others.
            is_undefined: the value is nan because labels are lacking; the schedule does not see it.
        """
        if value is None:
            schedule.step()
        elif (self.validated or not self.monitor.startswith("val/")) and not is_undefined:
            schedule.step(value)
            self.validated = False

    def _optimizer_of(self, network: nn.Module) -> Optimizer:
        return self.optimizer(self.parameter_groups(network))


def replay(optimizer: Optimizer, scheduler: Any, fresh: Any) -> None:
    """Step `fresh` as often as `scheduler` has been stepped, and take its state and its optimizer's settings over.

    Most of torch's schedules compute a rate from the one before: with a new length alone, a cosine that has come
    down to 0 would stay there. A plateau schedule follows the monitor: its rate stays, and its options are new.

    Args:
        optimizer: restored, with `scheduler`.
        fresh: a new schedule on an optimizer of its own, with the same parameter groups.
    """
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.load_state_dict(fresh.state_dict() | {name: getattr(scheduler, name) for name in PLATEAU_STATE})
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step of its optimizer comes before
        for _ in range(_steps_of(scheduler)):
            fresh.step()
    scheduler.load_state_dict(fresh.state_dict())
    for group, new in zip(optimizer.param_groups, fresh.optimizer.param_groups, strict=True):
        group.update({name: value for name, value in new.items() if name != "params"})


def _steps_of(scheduler: Any) -> int:
    """How often it has been stepped; a ChainedScheduler doesn't count, what it is made of does."""
    own = vars(scheduler).get("last_epoch")
    return _steps_of(scheduler._schedulers[0]) if own is None else int(own)
