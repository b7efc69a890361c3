"""Batch samplers: an epoch's batches depend on (seed, epoch) alone, not on the number of devices or on resuming."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fovea.data.loading.samplers import Sampler
from fovea.data.progressive import Progression

# The key of a sample: (epoch, index, how often the epoch has drawn this index before). Together with the seed it
# determines the image's augmentation.
Key = tuple[int, int, int]


class TrainBatchSampler:
    """Yields the batches of one epoch for one rank, as lists of keys.

    Global batch b is the b-th slice of indices that the sampler draws, each as long as the epoch's batch size; rank r
    takes every world_size-th index of it. Indices left over at the end of an epoch are dropped; they differ from epoch
    to epoch.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int | Progression, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        """`batch_size` is the global batch size, or that of each epoch.

        Raises:
            ValueError: a batch is larger than the epoch, or not a multiple of `world_size`.
        """
        sizes = Progression(batch_size, batch_size) if isinstance(batch_size, int) else batch_size
        check_batch_size("data.batch_size", sizes.last, len(sampler), world_size)
        check_batch_size("data.progressive.batch_size", sizes.first, len(sampler), world_size)
        self.sampler, self.size, self.batch_sizes, self.seed = sampler, len(sampler), sizes, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self.first_batch = 0, 0

    def __len__(self) -> int:
        """Return the number of batches of the epoch that `start_at` named."""
        return self.batches_of(self.epoch)

    def batches_of(self, epoch: int) -> int:
        """Return the number of batches of an epoch."""
        return self.size // self.batch_sizes(epoch)

    @property
    def batches_of_epochs(self) -> list[int]:
        """The number of batches of each epoch; the last one holds for all later epochs."""
        return [self.size // size for size in self.batch_sizes.of_epochs()]

    @property
    def rank_batch_sizes(self) -> list[int]:
        """The number of keys in a batch of this rank in each epoch; the last one holds for all later epochs."""
        return [size // self.world_size for size in self.batch_sizes.of_epochs()]

    def start_at(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin with this batch of this epoch."""
        self.epoch, self.first_batch = epoch, batch

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, draws = self.epoch, self.sampler.draw(self.seed, self.epoch)
        copies, size = occurrences_before(draws), self.batch_sizes(epoch)
        for batch in range(self.first_batch, self.batches_of(epoch)):
            start = batch * size
            own = slice(start + self.rank, start + size, self.world_size)
            pairs = zip(draws[own].tolist(), copies[own].tolist(), strict=True)
            yield [(epoch, index, copy) for index, copy in pairs]


def check_batch_size(key: str, batch_size: int, images: int, world_size: int) -> None:
    """Raise ValueError if a global batch can't be divided by the number of devices, or has more images than there are.

    Args:
        key: the key of the config that has the batch size.
        batch_size: over all devices.
        images: of an epoch.
        world_size: the number of devices.
    """
    if batch_size % world_size:
        multiple = max(world_size, batch_size - batch_size % world_size)
        raise ValueError(
            f"{key}={batch_size} is the global batch and cannot be divided by {world_size} devices: "
            f"make it a multiple, such as {multiple}"
        )
    if batch_size > images:
        raise ValueError(f"{key}={batch_size} is more than the {images} training images: lower it")


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
    def rank_batch_sizes(self) -> list[int]:
        """The number of keys in the largest batch of this rank, in every epoch."""
        return [min(self.batch_size, len(self.indices))]

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in range(len(self)):
            yield [(0, index, 0) for index in self.indices[batch * self.batch_size : (batch + 1) * self.batch_size]]
