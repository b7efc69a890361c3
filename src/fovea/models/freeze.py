"""Freezes parts of a network, so that training leaves them unchanged."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from torch import nn

from fovea.models.weights import head

BACKBONE = "backbone"


def freeze(network: nn.Module, names: str | Sequence[str]) -> None:
    """Exclude parameters from training: they get no gradient, no weight decay and no optimizer state.

    A module whose parameters are all frozen is set to evaluation mode: its BatchNorm keeps its running statistics and
    its dropout is off. Lightning does not change that mode. Call this before the network is wrapped for DDP.

    Args:
        names: names of modules and parameters, where * matches anything (layer1, *.bias), or "backbone", which is
            everything but the classifier. A single name may be given without a list.

    Raises:
        ValueError: the network has no such module or parameter, or every parameter would be frozen.
    """
    names = [names] if isinstance(names, str) else names
    parameters = dict(network.named_parameters())
    frozen = {name for pattern in names for name in matching(network, pattern, "freeze")}
    if frozen == parameters.keys():
        raise ValueError(f"freeze={','.join(names)}: every parameter would be frozen; leave some out")
    for name in frozen:
        parameters[name].requires_grad_(False)
    evaluate_frozen(network, frozen)


def evaluate_frozen(network: nn.Module, frozen: Collection[str]) -> None:
    """Set the modules to evaluation mode whose parameters are all in `frozen`."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for module in network.modules():
        own = [names[id(parameter)] for parameter in module.parameters()]
        if own and all(name in frozen for name in own):
            module.eval()


def matching(network: nn.Module, pattern: str, key: str) -> set[str]:
    """Return the names of parameters that match the pattern themselves or belong to a module that matches it.

    Args:
        network: the whole network.
        pattern: a name, where * matches anything, or "backbone".
        key: the config key of the pattern, for the error.

    Raises:
        ValueError: the network has no such module or parameter.
    """
    names = {name for name, _ in network.named_parameters()}
    if pattern == BACKBONE:
        return names - head.classifier_names(network)
    found = {name for name in names if any(fnmatchcase(prefix, pattern) for prefix in _prefixes(name))}
    if not found:
        modules = ", ".join(name for name, module in network.named_children() if list(module.parameters()))
        raise ValueError(f"{key}={pattern}: the network has no such module or parameter. It has {modules}")
    return found


def _prefixes(name: str) -> list[str]:
    """a.b.weight -> a, a.b, a.b.weight"""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
