"""Data loaders: workers fill whole batches in shared memory, and the training loader can resume within an epoch."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovea.data.loading.batch_samplers import EvalBatchSampler, Key, TrainBatchSampler
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.shared_memory import BufferPool, new_shared
from fovea.data.loading.workers import ignore_signals, iterate_workers

PREFETCH = 2  # batches that a worker prepares ahead
SPARE = 3  # more buffers, for batches that the training still uses


@dataclass
class FilledBatch:
    """A batch that a worker sends to the main process.

    The small arrays are pickled as numpy arrays, because each tensor would cost a round trip between the processes.

    Attributes:
        pool: the id of the BufferPool in the main process.
        buffer: the number of the buffer that contains the images; None if no buffer was free.
        images: the images, if they are not in a buffer.
        count: the number of images; a buffer may have space for more.
        size: their side in pixels.
    """

    pool: int
    buffer: int | None
    images: Tensor | None
    count: int
    size: int
    targets: np.ndarray
    indices: np.ndarray
    unreadable: np.ndarray

    def unpack(self) -> Batch:
        """Return the batch with its images from the buffer; called in the main process."""
        images = self.images
        if self.buffer is not None:
            images = BufferPool.pools[self.pool].filled(self.buffer, self.count, self.size)
        assert images is not None
        rest = (torch.from_numpy(array) for array in (self.targets, self.indices, self.unreadable))
        return Batch(images[: self.count], *rest)

    def pin_memory(self) -> Batch:
        """Called by DataLoader's pinning thread."""
        return pin(self.unpack())


class BatchFiller(Dataset[Any]):
    """The dataset of a worker: it receives (buffer number, keys) and fills that buffer."""

    def __init__(self, dataset: ImageDataset, pool: BufferPool) -> None:
        self.dataset, self.pool_id, self.pool = dataset, id(pool), pool

    def __getitems__(self, work: tuple[int | None, Sequence[Key]]) -> FilledBatch:
        buffer, keys = work
        count, size = len(keys), self.dataset.augment.crop_for(keys).size
        if buffer is None:
            images = new_shared((count, size, size, 3)).permute(0, 3, 1, 2)
        else:
            images = self.pool.buffer(buffer, count, size)
        batch = self.dataset.fill(keys, images)
        small = (tensor.numpy() for tensor in batch[1:])
        return FilledBatch(self.pool_id, buffer, images if buffer is None else None, len(batch.images), size, *small)


class BatchesWithBuffers:
    """A batch sampler that yields the keys of each batch with the number of a free buffer to fill."""

    def __init__(self, batches: TrainBatchSampler | EvalBatchSampler, pool: BufferPool) -> None:
        self.batches, self.pool = batches, pool

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int | None, list[Key]]]:
        for keys in self.batches:
            yield self.pool.take(), keys


class BatchLoader:
    """Yields a dataset's batches in order, made by worker processes ahead of time, or by this process without workers.

    It is not a DataLoader, so that Lightning does not replace its sampler.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batches: TrainBatchSampler | EvalBatchSampler,
        num_workers: int,
        pin_memory: bool = False,
        persistent: bool = False,
    ) -> None:
        """`persistent` workers are kept from epoch to epoch."""
        self.dataset, self.batches, self.pin_memory = dataset, batches, pin_memory
        self.workers: DataLoader[Batch] | None = None
        self.active = 0  # iterations that have not ended
        if num_workers:
            pixels = most_pixels(batches.rank_batch_sizes, dataset.augment.sizes)
            self.pool = BufferPool(PREFETCH * num_workers + SPARE, pixels)
            self.workers = DataLoader(
                BatchFiller(dataset, self.pool),
                batch_sampler=BatchesWithBuffers(batches, self.pool),  # type: ignore[arg-type]
                collate_fn=identity,
                worker_init_fn=ignore_signals,
                num_workers=num_workers,
                prefetch_factor=PREFETCH,
                pin_memory=pin_memory,
                persistent_workers=persistent,
                generator=torch.Generator(),  # the default generator's state, which dropout uses, must not change
            )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return self._in_this_process() if self.workers is None else self._in_workers(self.workers)

    def _in_this_process(self) -> Iterator[Batch]:
        for keys in self.batches:
            batch = self.dataset.__getitems__(keys)
            yield pin(batch) if self.pin_memory else batch

    def _in_workers(self, workers: DataLoader[Batch]) -> Iterator[Batch]:
        if not self.active:  # not during another iteration, whose workers may be filling buffers
            self.pool.reset()
        self.active += 1
        try:
            for filled in iterate_workers(workers):
                yield filled.unpack() if isinstance(filled, FilledBatch) else filled
        finally:
            self.active -= 1


class TrainLoader:
    """Yields the remaining batches of the current epoch.

    Attribute `waited`: seconds that were spent on waiting for batches, or on making them without workers.

    `position` is called at the first batch, not when the iterator is created, because Lightning creates the iterator
    before it restores a checkpoint's counters. The length is that of the current epoch.
    """

    def __init__(
        self, loader: Iterable[Batch], batches: TrainBatchSampler, position: Callable[[], tuple[int, int]]
    ) -> None:
        """`position` returns (epoch, number of batches of this epoch that are done)."""
        self.loader, self.batches, self.position = loader, batches, position
        self.waited = 0.0

    def __len__(self) -> int:
        return self.batches.batches_of(self.position()[0])

    def __iter__(self) -> Iterator[Batch]:
        """Raise ValueError at the end of an epoch in which no image could be read."""
        epoch, first = self.position()
        self.batches.start_at(epoch, first)
        images = unreadable = 0
        for done, batch in enumerate(self._timed(self.loader), start=first + 1):
            images, unreadable = images + len(batch.images), unreadable + len(batch.unreadable)
            # at the last batch, as Lightning does not ask for more
            if done == len(self.batches) and unreadable and not images:
                raise ValueError(
                    f"epoch {epoch}: none of the {unreadable} images could be read\n"
                    "Did the data change? data.on_error=raise stops at the first unreadable image with the reason"
                )
            yield batch

    def _timed(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        start = time.perf_counter()
        for batch in loader:
            self.waited += time.perf_counter() - start
            yield batch
            start = time.perf_counter()


def most_pixels(batches: Sequence[int], sizes: Sequence[int]) -> int:
    """Return the pixels of the largest batch of any epoch, at least 1.

    Args:
        batches: the images of a batch in each epoch; the last number holds for all later epochs.
        sizes: the side of an image in pixels, in the same way.
    """
    epochs = range(max(len(batches), len(sizes)))
    return max(1, *(batches[min(e, len(batches) - 1)] * sizes[min(e, len(sizes) - 1)] ** 2 for e in epochs))


def identity(batch: Any) -> Any:
    """Collate nothing, because the dataset returns whole batches. Not a lambda, because spawned workers pickle it."""
    return batch


def pin(batch: Batch) -> Batch:
    """Copy the batch to pinned memory, from which a GPU copies asynchronously."""
    return Batch(*(tensor.pin_memory() for tensor in batch))
