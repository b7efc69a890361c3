"""Checks the keys of parts that are called only later, with more arguments: those with `_partial_: true`."""

import functools
import inspect
from typing import Any


def check_keys(part: str, built: Any) -> None:
    """Check what Hydra built from a node, now and not in the first step of a training.

    Args:
        part: the node's key in the config.
        built: what is not a functools.partial, or takes any name, is accepted.

    Raises:
        ValueError: the partial's function has no argument of one of the node's names.
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
    if unknown:
        raise ValueError(
            f"{part}: {function.__qualname__} has no argument {', '.join(unknown)}. If an experiment sets it for "
            f"another {part}, leave it out: {' '.join(f'~{part}.{key}' for key in unknown)}"
        )
