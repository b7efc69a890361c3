"""Checks the keys of parts that are called only later, with more arguments: those with `_partial_: true`."""

import functools
import inspect
from collections.abc import Collection
from typing import Any


def check_keys(part: str, built: Any, passed: Collection[str] = ()) -> None:
    """Check what Hydra built from a node, now and not in the first step of a training.

    Args:
        part: the node's key in the config.
        built: what is not a functools.partial, or takes any name, is accepted.
        passed: its arguments that are not keys of the node, but passed by the program.

    Raises:
        ValueError: the partial's function has no argument of one of these names.
    """
    function, keys = built, list[str]()
    while isinstance(function, functools.partial):
        keys += function.keywords
        function = function.func
    try:
        parameters = inspect.signature(function).parameters if keys else {}
    except ValueError:  # a function in C may have none
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    unknown = [key for key in keys if key not in parameters]
    if lacking := [key for key in unknown if key in passed]:
        raise ValueError(
            f"{part}: {function.__qualname__} has no argument {', '.join(lacking)}, which the training passes to it: "
            "add it to the function"
        )
    if unknown:
        raise ValueError(
            f"{part}: {function.__qualname__} has no argument {', '.join(unknown)}. If an experiment sets it for "
            f"another {part}, leave it out: {' '.join(f'~{part}.{key}' for key in unknown)}"
        )
