"""The optimizer of a training and the schedule of its learning rates, also in a run that is resumed."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fovea.optim.warmup import Warmup

# what a plateau schedule has learned from the run
PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


class Optimization:
    """Makes the optimizer of a network and its schedule, and steps the schedule.

    Attributes:
        groups: the parameters or parameter groups of the training. They don't follow what is frozen later.
        validated: True if the schedule has not used the last validation yet. Lightning passes its value to a plateau
            schedule after every epoch, also where no validation was made; the schedule must use it once.
    """

    def __init__(
        self,
        optimizer: Callable[[Any], Optimizer],
        parameter_groups: Callable[[nn.Module], Any],
        schedule: Callable[[Optimizer], Any],
        interval: Literal["epoch", "step"],
        monitor: str,
    ) -> None:
        """Args:
        optimizer: parameters or parameter groups -> optimizer.
        parameter_groups: network -> the optimizer's argument.
        schedule: optimizer -> one of torch's schedules.
        interval: when the schedule steps.
        monitor: the figure that a plateau schedule follows.
        """
        self.optimizer, self.parameter_groups, self.schedule = optimizer, parameter_groups, schedule
        self.interval, self.monitor = interval, monitor
        self.groups: list[Any] = []
        self.validated = False

    def configure(self, network: nn.Module) -> dict[str, Any]:
        """Return what Lightning's `configure_optimizers` has to return."""
        self.groups = list(self.parameter_groups(network))
        optimizer = self._new_optimizer()
        schedule = self.schedule(optimizer)
        options = {
            "interval": self.interval,
            "monitor": self.monitor,
            "strict": False,  # an epoch without a validation leaves a plateau schedule unchanged
            "reduce_on_plateau": is_plateau(schedule),
        }
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, **options}}

    def replace(self, optimizer: Optimizer, restored: Any) -> None:
        """Change a schedule that was restored from a checkpoint into the current one, at the same step."""
        replay(optimizer, restored, self.schedule(self._new_optimizer()))

    def step(self, schedule: Any, value: Any | None, is_undefined: bool) -> None:
        """Step the schedule.

        Args:
            value: the monitor's last value, for a plateau schedule; None for the others.
            is_undefined: True if the value is nan because labels are missing; the schedule then ignores it.
        """
        if value is None:
            schedule.step()
        elif isinstance(schedule, Warmup) and schedule.warming:
            schedule.step()
            self.validated = False
        elif (self.validated or not self.monitor.startswith("val/")) and not is_undefined:
            schedule.step(value)
            self.validated = False

    def _new_optimizer(self) -> Optimizer:
        """Return a new optimizer of the groups; it writes into copies of them."""
        return self.optimizer([dict(group) if isinstance(group, dict) else group for group in self.groups])


def replay(optimizer: Optimizer, scheduler: Any, fresh: Any) -> None:
    """Step `fresh` as often as `scheduler` was stepped, and copy its state and its optimizer's rates.

    Most of torch's schedules compute a rate from the rate before. If only the length of a finished cosine were changed,
    its rate would stay 0. A plateau schedule keeps its rate, which follows from the monitor, and gets the new options.

    Args:
        optimizer: restored, with `scheduler`.
        fresh: a new schedule on an optimizer of its own, with the same parameter groups.
    """
    if is_plateau(scheduler) and isinstance(scheduler, Warmup):
        replay(optimizer, scheduler.schedule, fresh.schedule)
        return
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.load_state_dict(fresh.state_dict() | {name: getattr(scheduler, name) for name in PLATEAU_STATE})
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fresh's optimizer makes no step
        for _ in range(_steps_of(scheduler)):
            fresh.step()
    scheduler.load_state_dict(fresh.state_dict())
    for group, new in zip(optimizer.param_groups, fresh.optimizer.param_groups, strict=True):
        group.update({name: value for name, value in new.items() if name != "params"})


def scaled_for(config: Mapping[str, Any]) -> int | None:
    """Return the images of an optimizer step that a config's learning rate is scaled for; None without lr_scaling."""
    if config.get("lr_scaling") is None:  # or a run of an earlier version
        return None
    images: int = config["data"]["batch_size"] * config["trainer"]["accumulate_grad_batches"]
    return images


def is_plateau(schedule: Any) -> bool:
    """Return True if the schedule, perhaps after a warm-up, follows the monitor."""
    return schedule.is_plateau if isinstance(schedule, Warmup) else isinstance(schedule, ReduceLROnPlateau)


def _steps_of(scheduler: Any) -> int:
    """Return the number of steps of a schedule. A ChainedScheduler doesn't count its steps, but its parts do."""
    own = vars(scheduler).get("last_epoch")
    return _steps_of(scheduler._schedulers[0]) if own is None else int(own)
