"""What a scheduler was built with: loading its state puts the checkpoint's own in the place of the config's."""

import inspect
from typing import Any


def of(scheduler: Any) -> dict[str, Any]:
    """What a scheduler was built with (step_size, T_max, total_steps, ...), as opposed to how far it has come."""
    names = set(inspect.signature(type(scheduler).__init__).parameters) - {"self", "optimizer", "last_epoch"}
    names |= {f"_{name}" for name in names} | {"_schedule_phases"}  # milestones are kept as _milestones
    own = {name: value for name, value in vars(scheduler).items() if name in names and name != "_schedulers"}
    return own | {"_schedulers": [of(inner) for inner in getattr(scheduler, "_schedulers", [])]}


def put_back(scheduler: Any, built_with: dict[str, Any]) -> None:
    """Undo what loading a state did to them."""
    vars(scheduler).update({name: value for name, value in built_with.items() if name != "_schedulers"})
    for inner, own in zip(getattr(scheduler, "_schedulers", []), built_with["_schedulers"], strict=True):
        put_back(inner, own)
