"""What all processes of a run (its ranks) know, brought together."""

from typing import TypeVar

from torch import distributed

T = TypeVar("T")


def gather(mine: T) -> list[T]:
    """Each rank's, by rank; all of them must ask together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [mine]
    everyones = [mine] * distributed.get_world_size()
    distributed.all_gather_object(everyones, mine)
    return everyones
