"""Gradient checkpointing: a block's activations are computed again in the backward pass instead of being kept.

Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174. Deviation: each block is a segment; BatchNorm's running
statistics are updated in the first forward pass only, while torch.utils.checkpoint alone would update them twice.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(network: nn.Module) -> list[str]:
    """Let each block keep only its input in a training, and return the blocks' names.

    Gradients and statistics stay the same, as do the names and classes of modules (`isinstance`) and the state dict;
    copies of the network are checkpointed too.

    Raises:
        ValueError: the network has no blocks.
    """
    blocks = dict(blocks_of(network))
    if not blocks:
        raise ValueError(
            f"gradient_checkpointing=true: {type(network).__name__} has no blocks, which are modules of several layers "
            "in an nn.Sequential or nn.ModuleList: type gradient_checkpointing=false"
        )
    for block in blocks.values():
        block.__class__ = _checkpointed(type(block))
    return list(blocks)


def blocks_of(module: nn.Module, prefix: str = "", listed: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, block): the modules of several layers that stand in a container, such as residual blocks.

    A module that has a container of equal blocks is a stage, and its blocks are yielded instead.

    Args:
        module: to search.
        prefix: the beginning of the names.
        listed: whether the module is itself a container, so that its children may be blocks.
    """
    for name, child in module.named_children():
        place = f"{prefix}{name}"
        inner = list(blocks_of(child, f"{place}.", type(child) in (nn.Sequential, nn.ModuleList)))
        if listed and _is_block(child):
            yield place, child
        else:
            yield from inner


def _is_block(module: nn.Module) -> bool:
    """Whether a container's child has several layers, and is not a stage."""
    layers = [child for child in module.modules() if next(child.parameters(recurse=False), None) is not None]
    return len(layers) > 1 and not _is_stage(module)


def _is_stage(module: nn.Module) -> bool:
    """Whether the module is or has a container whose children are of one class, with several layers each.

    Sequences within a block, such as convolution, normalisation and activation, are no blocks.
    """
    for part in (module, *module.children()):
        children = list(part.children()) if type(part) in (nn.Sequential, nn.ModuleList) else []
        if children and len({type(child) for child in children}) == 1 and all(map(_has_layers, children)):
            return True
    return False


def _has_layers(module: nn.Module) -> bool:
    parts = [child for child in module.children() if next(child.parameters(), None) is not None]
    return bool(parts) and not isinstance(module, nn.Sequential)


def _checkpointed(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass whose `forward` is checkpointed; an instance attribute would be bound to the copied module."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return kind.forward(self, *args, **kwargs)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), used_again(state_of(self))

        return checkpoint(kind.forward, self, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


State = list[tuple[nn.Module, dict[str, Any], dict[str, Any]]]  # (module, its own parameters, its own buffers)


def state_of(module: nn.Module) -> State:
    """Return the tensors that the module and the modules in it use now."""
    return [(part, dict(part._parameters), dict(part._buffers)) for part in module.modules()]


@contextmanager
def used_again(state: State) -> Iterator[None]:
    """Use the tensors of `state`, for layers in training mode copies of its buffers, which are then thrown away.

    An objective may replace weights for a forward pass only (torch.func.functional_call), as sharpness-aware
    minimization does.
    """
    now = [(part, dict(part._parameters), dict(part._buffers)) for part, *_ in state]
    for part, parameters, buffers in state:
        part._parameters.update(parameters)
        part._buffers.update({name: _copied(buffer) if part.training else buffer for name, buffer in buffers.items()})
    try:
        yield
    finally:
        for part, parameters, buffers in now:
            part._parameters.update(parameters)
            part._buffers.update(buffers)


def _copied(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None else buffer.clone()
