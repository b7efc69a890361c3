"""Worker processes that fill whole batches, and the training loader that resumes within an epoch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovea.data.loading.batch_samplers import EvalBatches, Key, TrainBatches
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.shared_memory import BufferPool, new_shared
from fovea.data.loading.workers import from_workers, leave_signals

PREFETCH = 2  # batches that a worker prepares ahead
SPARE = 3  # buffers for the batches that the training still uses


@dataclass
class FilledBatch:
    """A batch on its way from a worker to the main process.

    The small arrays are sent by value: each tensor would cost a round trip between the processes.

    Attributes:
        pool: the id of the BufferPool in the main process.
        buffer: the number of the buffer that holds the images; None if there was no free one.
        images: the images, if no buffer holds them.
        count: how many images there are; a buffer may have room for more.
    """

    pool: int
    buffer: int | None
    images: Tensor | None
    count: int
    targets: np.ndarray
    indices: np.ndarray
    unreadable: np.ndarray

    def unpack(self) -> Batch:
        """In the main process."""
        images = self.images if self.buffer is None else BufferPool.pools[self.pool].filled(self.buffer)
        assert images is not None
        rest = (torch.from_numpy(array) for array in (self.targets, self.indices, self.unreadable))
        return Batch(images[: self.count], *rest)

    def pin_memory(self) -> Batch:
        """Called by DataLoader's thread that pins memory."""
        return pinned(self.unpack())


class BatchFiller(Dataset[Any]):
    """The dataset of a worker: it is sent (buffer, keys) and fills that buffer."""

    def __init__(self, dataset: ImageDataset, pool: BufferPool) -> None:
        self.dataset, self.pool_id, self.pool = dataset, id(pool), pool

    def __getitems__(self, work: tuple[int | None, Sequence[Key]]) -> FilledBatch:
        buffer, keys = work
        images = self._room_for(len(keys)) if buffer is None else self.pool.buffer(buffer)[: len(keys)]
        batch = self.dataset.fill(keys, images)
        small = (tensor.numpy() for tensor in batch[1:])
        return FilledBatch(self.pool_id, buffer, images if buffer is None else None, len(batch.images), *small)

    def _room_for(self, count: int) -> Tensor:
        size = self.dataset.augment.crop.size
        return new_shared((count, size, size, 3)).permute(0, 3, 1, 2)


class BatchesWithBuffers:
    """Batches of keys, each with the number of the buffer to fill."""

    def __init__(self, batches: TrainBatches | EvalBatches, pool: BufferPool) -> None:
        self.batches, self.pool = batches, pool

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int | None, list[Key]]]:
        for keys in self.batches:
            yield self.pool.take(), keys


class BatchLoader:
    """Iterates over a dataset's batches, in order, made by worker processes ahead of time or by this process.

    It is not a DataLoader, so that Lightning doesn't put samplers of its own into it.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batches: TrainBatches | EvalBatches,
        num_workers: int,
        pin_memory: bool = False,
        persistent: bool = False,
    ) -> None:
        """`persistent` workers live on from epoch to epoch."""
        self.dataset, self.batches, self.pin = dataset, batches, pin_memory
        self.workers: DataLoader[Batch] | None = None
        self.open = 0  # iterations that haven't ended
        if num_workers:
            self.pool = BufferPool(PREFETCH * num_workers + SPARE, max(1, batches.most), dataset.augment.crop.size)
            self.workers = DataLoader(
                BatchFiller(dataset, self.pool),
                batch_sampler=BatchesWithBuffers(batches, self.pool),  # type: ignore[arg-type]
                collate_fn=unchanged,
                worker_init_fn=leave_signals,
                num_workers=num_workers,
                prefetch_factor=PREFETCH,
                pin_memory=pin_memory,
                persistent_workers=persistent,
                generator=torch.Generator(),  # the default one would be drawn from in every epoch, and dropout's too
            )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return self._in_this_process() if self.workers is None else self._in_workers(self.workers)

    def _in_this_process(self) -> Iterator[Batch]:
        for keys in self.batches:
            batch = self.dataset.__getitems__(keys)
            yield pinned(batch) if self.pin else batch

    def _in_workers(self, workers: DataLoader[Batch]) -> Iterator[Batch]:
        if not self.open:  # another iteration's workers may be filling buffers that no tensor uses yet
            self.pool.reset()
        self.open += 1
        try:
            for filled in from_workers(workers):
                yield filled.unpack() if isinstance(filled, FilledBatch) else filled
        finally:
            self.open -= 1


class TrainLoader:
    """Iterates over what is left of the current epoch.

    `place` is called at the first batch, not when the iterator is made, because Lightning makes the iterator before it
    restores a checkpoint's counters.
    """

    def __init__(self, loader: Iterable[Batch], batches: TrainBatches, place: Callable[[], tuple[int, int]]) -> None:
        """`place` returns (epoch, number of its batches that are done)."""
        self.loader, self.batches, self.place = loader, batches, place

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Raises ValueError if not one image of the epoch could be read."""
        epoch, first = self.place()
        self.batches.start_at(epoch, first)
        images = left_out = 0
        for done, batch in enumerate(self.loader, start=first + 1):
            images, left_out = images + len(batch.images), left_out + len(batch.unreadable)
            if done == len(self) and left_out and not images:  # Lightning asks for no more than that
                raise ValueError(
                    f"epoch {epoch}: none of the {left_out} images could be read\n"
                    "Is the data what it was? data.on_error=raise stops at the first one and says why"
                )
            yield batch


def unchanged(batch: Any) -> Any:
    """The dataset has made the batch already. No lambda, because workers that are spawned pickle it."""
    return batch


def pinned(batch: Batch) -> Batch:
    """In pinned memory, from which a GPU copies while the program goes on."""
    return Batch(*(tensor.pin_memory() for tensor in batch))
