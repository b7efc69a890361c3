"""Batch samplers: an epoch's batches depend on (seed, epoch) alone, not on the number of devices or on resuming."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fovea.data.loading.samplers import Sampler

# The key of a sample: (epoch, index, how often the epoch has drawn this index before). Together with the seed it
# determines the image's augmentation.
Key = tuple[int, int, int]


class TrainBatchSampler:
    """Yields the batches of one epoch for one rank, as lists of keys.

    Global batch b is the b-th slice of `batch_size` indices that the sampler draws; rank r takes every world_size-th
    index of it. Indices left over at the end of an epoch are dropped; they differ from epoch to epoch.
    """

    def __init__(self, sampler: Sampler, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """`batch_size` is the global batch size.

        Raises:
            ValueError: the batch is larger than the epoch, or not a multiple of `world_size`.
        """
        if batch_size % world_size:
            multiple = max(world_size, batch_size - batch_size % world_size)
            raise ValueError(
                f"data.batch_size={batch_size} is the global batch and cannot be divided by {world_size} devices: "
                f"make it a multiple, such as {multiple}"
            )
        if batch_size > len(sampler):
            raise ValueError(f"data.batch_size={batch_size} is more than the {len(sampler)} training images: lower it")
        self.sampler, self.size, self.batch_size, self.seed = sampler, len(sampler), batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self.first_batch = 0, 0

    def __len__(self) -> int:
        return self.size // self.batch_size

    @property
    def rank_batch_size(self) -> int:
        """The number of keys in a batch of this rank."""
        return self.batch_size // self.world_size

    def start_at(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin with this batch of this epoch."""
        self.epoch, self.first_batch = epoch, batch

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, draws = self.epoch, self.sampler.draw(self.seed, self.epoch)
        copies = occurrences_before(draws)
        for batch in range(self.first_batch, len(self)):
            start = batch * self.batch_size
            own = slice(start + self.rank, start + self.batch_size, self.world_size)
            pairs = zip(draws[own].tolist(), copies[own].tolist(), strict=True)
            yield [(epoch, index, copy) for index, copy in pairs]


def occurrences_before(draws: Tensor) -> Tensor:
    """Count for each element of `draws` (M,) how often its value occurs before it: (M,) int64."""
    seen = torch.zeros(int(draws.max()) + 1, dtype=torch.bool)
    seen[draws] = True
    if seen.sum() == len(draws):  # all values differ: saves the sorting and the memory
        return torch.zeros(1, dtype=torch.long).expand(len(draws))
    counts = torch.bincount(draws)
    positions = draws.argsort(stable=True)  # grouped by value, each group in the order of the draws
    group_starts = (counts.cumsum(0) - counts).repeat_interleave(counts)  # (M,)
    return torch.empty_like(draws).index_copy_(0, positions, torch.arange(len(draws)) - group_starts)


class EvalBatchSampler:
    """Yields batches of keys for one rank; over all ranks, every image occurs exactly once, without padding.

    A rank without images yields one empty batch, so that it takes part in the collective operations.
    """

    def __init__(self, size: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        """`size` is the number of images, `batch_size` the global batch size."""
        self.indices = range(rank, size, world_size)
        self.batch_size = max(1, batch_size // world_size)

    def __len__(self) -> int:
        return max(1, -(-len(self.indices) // self.batch_size))

    @property
    def rank_batch_size(self) -> int:
        """The number of keys in the largest batch of this rank."""
        return min(self.batch_size, len(self.indices))

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in range(len(self)):
            yield [(0, index, 0) for index in self.indices[batch * self.batch_size : (batch + 1) * self.batch_size]]
