"""Which images make up which batch: a function of (seed, epoch), whatever the number of devices or a restart."""

from collections.abc import Iterator

import torch

from fovea.data.seeds import mix

Key = tuple[int, int]  # (epoch, index): all that an image's augmentation depends on, beside the seed


class TrainBatches:
    """One epoch's batches of keys for one rank.

    The epoch's order is a permutation drawn from (seed, epoch). Global batch b is its b-th slice of `batch_size`; rank
    r takes every world_size-th of that slice. The rest that doesn't fill a batch is left out, another one each epoch.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, shuffle: bool = True
    ) -> None:
        """`batch_size` is the global one.

        Raises:
            ValueError: the batch is larger than the data, or not a multiple of `world_size`.
        """
        if batch_size % world_size:
            near = max(world_size, batch_size - batch_size % world_size)
            raise ValueError(
                f"data.batch_size={batch_size} is the global batch and can't be shared evenly by {world_size} devices: "
                f"make it a multiple, such as {near}"
            )
        if batch_size > size:
            raise ValueError(f"data.batch_size={batch_size} is more than the {size} training images: lower it")
        self.size, self.batch_size, self.seed, self.shuffle = size, batch_size, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch, self.first_batch = 0, 0

    def __len__(self) -> int:
        return self.size // self.batch_size

    def start_at(self, epoch: int, batch: int) -> None:
        """What the next iteration begins with."""
        self.epoch, self.first_batch = epoch, batch

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order(self.epoch)
        for batch in range(self.first_batch, len(self)):
            start = batch * self.batch_size
            mine = order[start + self.rank : start + self.batch_size : self.world_size]
            yield [(self.epoch, index) for index in mine.tolist()]

    def _order(self, epoch: int) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(self.size)
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(mix(self.seed, epoch)))


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

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in range(len(self)):
            yield [(0, index) for index in self.mine[batch * self.batch_size : (batch + 1) * self.batch_size]]
