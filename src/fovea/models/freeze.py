"""Freezing: parts of a network that a training leaves as they are."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from fovea.models import head

BACKBONE = "backbone"


def freeze(network: nn.Module, names: str | Sequence[str]) -> None:
    """Take parameters out of the training: no gradient, no weight decay, no optimizer state.

    A layer without any other parameter runs in evaluation mode: its BatchNorm keeps its statistics and its dropout is
    off. Lightning leaves that mode as it is. To be called before a network is wrapped for several devices.

    Args:
        names: of modules and parameters, where * stands for anything (layer1, *.bias); or "backbone", which is
            everything but the classifier. A single one needs no list.

    Raises:
        ValueError: the network has no such name, or nothing would be left to train.
    """
    names = [names] if isinstance(names, str) else names
    parameters = dict(network.named_parameters())
    frozen = {name for pattern in names for name in _named(network, pattern)}
    if frozen == parameters.keys():
        raise ValueError(f"freeze={','.join(names)}: nothing would be left to train")
    for name in frozen:
        parameters[name].requires_grad_(False)
    for module in network.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _named(network: nn.Module, pattern: str) -> set[str]:
    """Parameters with that name, or in a module with that name."""
    names = {name for name, _ in network.named_parameters()}
    if pattern == BACKBONE:
        return names - head.names(network)
    found = {name for name in names if any(fnmatchcase(prefix, pattern) for prefix in _prefixes(name))}
    if not found:
        top = ", ".join(name for name, module in network.named_children() if list(module.parameters()))
        raise ValueError(f"freeze={pattern}: the network has no such module or parameter. It has {top}")
    return found


def _prefixes(name: str) -> list[str]:
    """a.b.weight -> a, a.b, a.b.weight"""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
