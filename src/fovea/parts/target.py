"""Imports what the `_target_` of a node names."""

from typing import Any

from hydra.utils import get_object

from fovea import error_text


def imported(part: str, target: str) -> Any:
    """Return the class or function of a dotted name.

    Args:
        part: the node's key in the config.
        target: its `_target_`.

    Raises:
        ValueError: it can't be imported.
    """
    try:
        return get_object(target)
    except (ImportError, ValueError) as error:  # ValueError: no dotted name
        remedy = "is it spelt right, and installed?"
        if target.startswith("timm."):
            remedy = 'timm is not installed or too old; run pip install -e ".[timm]"'
        reason = error_text.line(error.__cause__ or error)  # a module may lack another one that it imports
        raise ValueError(f"{part}._target_={target} can't be imported ({reason}): {remedy}") from error
