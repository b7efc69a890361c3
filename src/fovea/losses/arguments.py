"""What a loss is built with, of what its config says."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fovea.losses.class_weights import is_weight


def accepted(loss: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that say nothing to this loss, so that `loss._target_=...` alone exchanges it.

    These are class names and counts, which the yamls offer, and what is null.
    """
    parameters = inspect.signature(loss).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    idle = [name for name, value in options.items() if value is None or name in ("class_names", "class_counts")]
    return {name: value for name, value in options.items() if takes_all or name in parameters or name not in idle}


def tensors(loss: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Lists of numbers as float tensors, for the parameters that `loss` annotates so: torch.nn's `weight`, say.

    Raises:
        ValueError: such a list holds something else than numbers, or weights that are negative or not finite.
    """
    parameters = inspect.signature(loss).parameters
    takes = {name for name, parameter in parameters.items() if "Tensor" in str(parameter.annotation)}
    return {name: _tensor(name, value) for name, value in options.items() if name in takes and isinstance(value, list)}


def of_the_config(loss: Any, given: Mapping[str, Tensor]) -> Any:
    """The loss, which takes such tensors along to its device and keeps them out of checkpoints."""
    if isinstance(loss, nn.Module):
        for name, tensor in given.items():
            if loss.__dict__.get(name) is tensor:
                delattr(loss, name)
            if name in loss._buffers or not hasattr(loss, name):
                loss.register_buffer(name, tensor, persistent=False)
    return loss


def _tensor(name: str, values: Sequence[Any]) -> Tensor:
    wrong = [value for value in values if not is_weight(value)] if name.endswith("weight") else []
    if wrong:
        raise ValueError(f"loss.{name}: {wrong[0]} is no weight: a weight is a finite number from 0 on")
    try:
        return torch.tensor(values, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"loss.{name}={values}: a list of numbers is expected") from error
