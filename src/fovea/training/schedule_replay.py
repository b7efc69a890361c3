"""Brings a restored schedule to where another one, of a longer run for example, would be by now."""

import warnings
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

SEEN = (
    "best",
    "num_bad_epochs",
    "cooldown_counter",
    "last_epoch",
    "_last_lr",
)  # what a plateau schedule knows of the run


def replay(optimizer: Optimizer, scheduler: Any, fresh: Any) -> None:
    """Step `fresh` as often as `scheduler` has been stepped, and take its state and its optimizer's settings over.

    Most of torch's schedules compute a rate from the one before: with a new length alone, a cosine that has come
    down to 0 would stay there. A plateau schedule follows the monitor: its rate stays, and its options are new.

    Args:
        optimizer: restored, with `scheduler`.
        fresh: a new schedule on an optimizer of its own, with the same parameter groups.
    """
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.load_state_dict(fresh.state_dict() | {name: getattr(scheduler, name) for name in SEEN})
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step of its optimizer comes before
        for _ in range(steps_of(scheduler)):
            fresh.step()
    scheduler.load_state_dict(fresh.state_dict())
    for group, new in zip(optimizer.param_groups, fresh.optimizer.param_groups, strict=True):
        group.update({name: value for name, value in new.items() if name != "params"})


def steps_of(scheduler: Any) -> int:
    """How often it has been stepped; a ChainedScheduler doesn't count, what it is made of does."""
    own = vars(scheduler).get("last_epoch")
    return steps_of(scheduler._schedulers[0]) if own is None else int(own)
