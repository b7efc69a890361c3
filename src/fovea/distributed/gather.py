"""Exchanges values between the ranks of a run."""

from typing import TypeVar

from torch import distributed, nn

T = TypeVar("T")


def gather(mine: T) -> list[T]:
    """The values of all ranks, by rank; all of them must call this together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [mine]
    everyones = [mine] * distributed.get_world_size()
    distributed.all_gather_object(everyones, mine)
    return everyones


def broadcast_buffers(network: nn.Module) -> None:
    """Overwrite the network's buffers with those of rank 0, which are what a checkpoint holds."""
    if distributed.is_available() and distributed.is_initialized():
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)
