"""Exchanges values between the ranks of a run."""

from typing import TypeVar

from torch import distributed, nn

T = TypeVar("T")


def gather(value: T) -> list[T]:
    """Return each rank's value, in the order of ranks. All ranks must call this at the same point."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def broadcast_buffers(network: nn.Module) -> None:
    """Overwrite the network's buffers with those of rank 0, which a checkpoint stores."""
    if distributed.is_available() and distributed.is_initialized():
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)
