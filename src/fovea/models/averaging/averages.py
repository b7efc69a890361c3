"""Averages of a network's weights: a running one, and that of several state dicts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, share: float) -> None:
    """Compute a <- a + share (w - a) in place for parameters and float buffers; copy other buffers.

    Args:
        average: a copy of the network.
        network: the weights w.
        share: in [0, 1]. 1 - decay gives an exponential average; 1/n gives the mean of n weights if `average` is that
            of the n - 1 before.
    """
    old, new = _tensors(average), _tensors(network)
    floats = [i for i, tensor in enumerate(old) if tensor.is_floating_point()]
    torch._foreach_lerp_([old[i] for i in floats], [new[i] for i in floats], share)
    for target, source in zip(old, new, strict=True):
        if not target.is_floating_point():
            target.copy_(source)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of n state dicts, summed in float64; tensors that are not float are those of the first.

    Raises:
        ValueError: a state has other names or shapes than the first.
    """
    for n, state in enumerate(states):
        check_same_shapes(states[0], state, f"weights {n + 1}")
    return {name: _mean([state[name] for state in states]) for name in states[0]}


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first.clone()
    total = torch.zeros_like(first, dtype=torch.float64)
    for tensor in tensors:
        total += tensor
    return (total / len(tensors)).to(first.dtype)


def check_same_shapes(first: Mapping[str, Tensor], other: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError with `source` and the first difference if the names or shapes of two state dicts differ."""
    for name in {**first, **other}:
        shapes = [tuple(state[name].shape) if name in state else "missing" for state in (first, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{source}: {name} is {shapes[1]}, and {shapes[0]} in the first: only weights of the same network can "
                "be averaged"
            )
