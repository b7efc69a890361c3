"""Which images make up which batch: a function of (seed, epoch), whatever the number of devices or a restart."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fovea.data.loading.samplers import Order

# (epoch, index, how often the index came before in the epoch): all that an image's augmentation depends on, beside
# the seed.
Key = tuple[int, int, int]


class TrainBatches:
    """One epoch's batches of keys for one rank.

    The epoch's draws are the order's. Global batch b is their b-th slice of `batch_size`; rank r takes every
    world_size-th of that slice. The rest that doesn't fill a batch is left out, another one each epoch.
    """

    def __init__(self, order: Order, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """`batch_size` is the global one.

        Raises:
            ValueError: the batch is larger than the epoch, or not a multiple of `world_size`.
        """
        if batch_size % world_size:
            near = max(world_size, batch_size - batch_size % world_size)
            raise ValueError(
                f"data.batch_size={batch_size} is the global batch and can't be shared evenly by {world_size} devices: "
                f"make it a multiple, such as {near}"
            )
        if batch_size > len(order):
            raise ValueError(f"data.batch_size={batch_size} is more than the {len(order)} training images: lower it")
        self.order, self.size, self.batch_size, self.seed = order, len(order), batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self.first_batch = 0, 0

    def __len__(self) -> int:
        return self.size // self.batch_size

    @property
    def most(self) -> int:
        """How many keys a batch of this rank holds."""
        return self.batch_size // self.world_size

    def start_at(self, epoch: int, batch: int) -> None:
        """What the next iteration begins with."""
        self.epoch, self.first_batch = epoch, batch

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, draws = self.epoch, self.order.draw(self.seed, self.epoch)
        before = copies(draws)
        for batch in range(self.first_batch, len(self)):
            start = batch * self.batch_size
            mine = slice(start + self.rank, start + self.batch_size, self.world_size)
            pairs = zip(draws[mine].tolist(), before[mine].tolist(), strict=True)
            yield [(epoch, index, copy) for index, copy in pairs]


def copies(draws: Tensor) -> Tensor:
    """(M,) int64: how often each value of `draws` (M,) came before its place."""
    seen = torch.zeros(int(draws.max()) + 1, dtype=torch.bool)
    seen[draws] = True
    if seen.sum() == len(draws):  # none comes twice: nothing to sort, and no memory
        return torch.zeros(1, dtype=torch.long).expand(len(draws))
    counts = torch.bincount(draws)
    places = draws.argsort(stable=True)  # each image's draws side by side, in their order
    firsts = (counts.cumsum(0) - counts).repeat_interleave(counts)  # (M,) where in `places` the image's own begin
    return torch.empty_like(draws).index_copy_(0, places, torch.arange(len(draws)) - firsts)


class EvalBatches:
    """Batches of keys for one rank that together hold every image exactly once: nothing padded, nothing dropped.

    A rank that there is no image left for gets one empty batch, so that it takes part in what the ranks do together.
    """

    def __init__(self, size: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        """`batch_size` is the global one."""
        self.mine = range(rank, size, world_size)
        self.batch_size = max(1, batch_size // world_size)

    def __len__(self) -> int:
        return max(1, -(-len(self.mine) // self.batch_size))

    @property
    def most(self) -> int:
        """How many keys a batch of this rank holds, or fewer in the last one."""
        return min(self.batch_size, len(self.mine))

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in range(len(self)):
            yield [(0, index, 0) for index in self.mine[batch * self.batch_size : (batch + 1) * self.batch_size]]
