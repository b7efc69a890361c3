"""Prepares the arguments of a loss from its config: drops those it doesn't take, turns lists into tensors."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fovea.losses.class_weights import is_weight

FROM_DATA = ("task", "class_names", "class_counts")  # our yamls refer to them
SWITCHES = ("label_smoothing", "sum_classes")  # our yamls have them, 0 or false unless they are typed


def accepted(loss: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Remove optional arguments that this loss doesn't take, so that `loss._target_=...` alone selects another loss.

    Optional are facts about the data, options that are off, and values that are null.

    Raises:
        ValueError: class weights are given, and the loss doesn't take them.
    """
    parameters = inspect.signature(loss).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    taken = {name: value for name, value in options.items() if takes_all or name in parameters}
    left = {name: value for name, value in options.items() if name not in taken and not _is_optional(name, value)}
    if "class_weights" in left:
        raise ValueError(
            f"loss.class_weights={left['class_weights']}: {loss.__name__} takes no class weights\n"
            "Choose a loss of conf/loss, or leave class weights out"
        )
    return taken | left


def _is_optional(name: str, value: Any) -> bool:
    return value is None or name in FROM_DATA or (name in SWITCHES and not value)


def tensors(loss: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return lists of numbers as float tensors, for parameters that `loss` annotates as Tensor (such as `weight`).

    Raises:
        ValueError: a list contains something other than numbers, or a weight that is negative or not finite.
    """
    parameters = inspect.signature(loss).parameters
    wanted = {name for name, parameter in parameters.items() if "Tensor" in str(parameter.annotation)}
    return {name: _tensor(name, value) for name, value in options.items() if name in wanted and isinstance(value, list)}


def register_tensors(loss: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Make the tensors buffers that move with the loss to its device and are not in checkpoints; return the loss."""
    if isinstance(loss, nn.Module):
        for name, tensor in tensors.items():
            if loss.__dict__.get(name) is tensor:
                delattr(loss, name)
            if name in loss._buffers or not hasattr(loss, name):
                loss.register_buffer(name, tensor, persistent=False)
    return loss


def _tensor(name: str, values: Sequence[Any]) -> Tensor:
    wrong = [value for value in values if not is_weight(value)] if name.endswith("weight") else []
    if wrong:
        raise ValueError(f"loss.{name}: {wrong[0]} is no weight: give a finite number, 0 or more")
    try:
        return torch.tensor(values, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"loss.{name}={values}: give a list of numbers") from error
