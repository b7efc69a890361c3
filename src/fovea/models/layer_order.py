"""Numbers a network's layers from its stem to its head, for learning rates that depend on the depth."""

from collections.abc import Iterator
from typing import Any

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def layer_numbers(network: Any) -> dict[str, int]:
    """Return the layer of each parameter: 0 for the stem, then one number for each block, the highest for the head.

    timm's networks say it themselves (`group_matcher`). In other networks a layer is found by its place: containers of
    blocks are opened, as is a module with most of the network's parameters; what then comes in order of registration is
    a layer each. What comes before the first block is the stem, and a normalisation layer belongs to the layer before
    it. This assumes that modules are registered in the order in which they are used, as in torchvision's networks.

    Source: the numbering of Bao et al. 2022 (BEiT), https://arxiv.org/abs/2106.08254, as timm has it.
    """
    if hasattr(network, "group_matcher"):
        from timm.models import group_parameters

        found: dict[str, int] = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
        return found
    layers = _layers(list(_parts(network, "", _size(network))))
    names = [name for name, _ in network.named_parameters()]
    return {name: n for n, parts in enumerate(layers) for part in parts for name in names if _is_in(name, part)}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _is_in(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _parts(module: nn.Module, prefix: str, total: int) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """Yield (name, module or parameter) of what a layer may consist of, in order of registration."""
    for name, parameter in module.named_parameters(recurse=False):
        yield prefix + name, parameter
    for name, child in module.named_children():
        if _is_body(child, total) or (not prefix and type(child) is nn.Sequential):
            yield from _parts(child, f"{prefix}{name}.", total)
        elif _size(child):
            yield prefix + name, child


def _is_body(module: nn.Module, total: int) -> bool:
    """Whether the module holds blocks, and is not a block: a container of them, or most of the network around one."""
    if isinstance(module, CONTAINERS):
        return any(_has_children(child) for child in module.children())
    inner = any(isinstance(child, CONTAINERS) and _is_body(child, total) for child in module.children())
    return inner and _size(module) > total / 2


def _has_children(module: nn.Module | nn.Parameter) -> bool:
    return isinstance(module, nn.Module) and any(_size(child) for child in module.children())


def _layers(parts: list[tuple[str, nn.Module | nn.Parameter]]) -> list[list[str]]:
    """Return the names of each layer's parts."""
    first_block = next((n for n, (_, part) in enumerate(parts) if _has_children(part)), 0)
    layers = [[name for name, _ in parts[:first_block]]]
    for name, part in parts[first_block:]:
        tensors = [part] if isinstance(part, nn.Parameter) else list(part.parameters())
        if layers[-1] and all(tensor.ndim <= 1 for tensor in tensors):
            layers[-1].append(name)
        else:
            layers.append([name])
    return [layer for layer in layers if layer]
