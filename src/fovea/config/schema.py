"""Checks a config's values against the types and ranges in keys.py, and the name of the monitor."""

import difflib
import functools
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fovea.config.keys import KEYS, names
from fovea.runs.figure_names import average_of, prefix

MOST = 3  # errors that a message lists


def check_types(config: dict[str, Any], complete: bool = True) -> None:
    """Raise ValueError for up to three keys that have a value of wrong type or range, or are missing.

    Args:
        config: plain containers.
        complete: required keys that are missing are errors.
    """
    lines = [line for key in names("type") for line in _errors(config, key, complete)][:MOST]
    if lines:
        raise ValueError("\n".join(lines))


def _errors(config: dict[str, Any], key: str, complete: bool) -> Iterator[str]:
    """Yield at most one line. For a union pydantic reports an error of each branch; only the first one is used."""
    *sections, last = key.split(".")
    node: Any = config
    for section in sections:
        node = node.get(section) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        return  # the row of the section reports it
    if last not in node:
        if KEYS[key].required and complete:
            yield f"{key} is missing"
        return
    try:
        _validator(key).validate_python(node[last])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([key, *(str(part) for part in first["loc"] if _is_key(part))])
        yield f"{place}={first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _is_key(part: int | str) -> bool:
    """Whether a part of pydantic's location is a config key, not a union's branch ("constrained-int", "dict[...]")."""
    return isinstance(part, int) or (part.isidentifier() and part not in ("int", "float", "str"))


@functools.cache
def _validator(key: str) -> TypeAdapter[Any]:
    return TypeAdapter(KEYS[key].type, config=ConfigDict(strict=True, allow_inf_nan=False))


def check_monitor(monitor: str, metrics: Iterable[str], averages: Iterable[str]) -> None:
    """Raise ValueError if `monitor` is not `train/<name>` or `val/<name>` of one of the metrics.

    With `averages` of the weights, "ema" or "swa", `val/<average>_<name>` is allowed too.
    """
    splits = ("val/", "train/", *(f"val/{prefix(average)}" for average in averages))
    metrics = list(metrics)
    names = [f"{split}{name}" for split in splits for name in metrics]
    average = average_of(monitor)
    if monitor not in names and monitor in [f"val/{prefix(average)}{name}" for name in metrics]:
        raise ValueError(f"monitor={monitor} is not logged without averaged weights: callbacks=[default,{average}]")
    if monitor not in names:
        near = difflib.get_close_matches(monitor, names, n=1, cutoff=0.5)
        suggestion = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"monitor={monitor} is not logged: {suggestion}There are {', '.join(names)}")
