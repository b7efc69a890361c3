"""Workers that fill whole batches, and the training loader that knows where an interrupted epoch stopped."""

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovea.data.loading.batch_samplers import EvalBatches, Key, TrainBatches
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.workers import from_workers, leave_signals

PREFETCH = 2  # batches a worker is ahead
SPARE = 3  # slots for the batches that the training holds on to
SHARED_MEMORY = "/dev/shm"


class Slots:
    """Shared memory for batches of images, used again once nobody holds a batch that lies in it.

    New shared memory for each batch would cost a quarter of the time that raw pixels take: the kernel has to clear
    every page. A batch that is held on to keeps its slot; when all are taken, workers do make new memory.
    """

    pools: ClassVar["weakref.WeakValueDictionary[int, Slots]"] = weakref.WeakValueDictionary()  # this process's own

    def __init__(self, count: int, batch: int, size: int) -> None:
        """Room for `count` batches of `batch` images of `size` pixels square.

        Raises:
            ValueError: the machine has less shared memory.
        """
        check_shared_memory(count * batch * size * size * 3)
        self.memory = new_shared((count, batch, size, size, 3))
        self.free: set[int] = set()
        self.held: set[int] = set()
        self.pools[id(self)] = self

    def renew(self) -> None:
        """Take back what an iteration that was given up had been given."""
        self.free = set(range(len(self.memory))) - self.held

    def take(self) -> int | None:
        return self.free.pop() if self.free else None

    def images(self, slot: int) -> Tensor:
        """(B, 3, S, S), to be filled."""
        return self.memory[slot].permute(0, 3, 1, 2)

    def lend(self, slot: int) -> Tensor:
        """The same, filled; the slot is free again when this and every view of it are gone."""
        self.held.add(slot)
        array = self.memory[slot].numpy()  # the tensor's storage, which all views share, holds on to this object
        weakref.finalize(array, self._give_back, slot).atexit = False
        return torch.from_numpy(array).permute(0, 3, 1, 2)

    def _give_back(self, slot: int) -> None:
        self.held.discard(slot)
        self.free.add(slot)


@dataclass
class Filled:
    """A batch on its way from a worker. Small arrays travel by value: each tensor would cost a round trip."""

    pool: int
    slot: int | None
    images: Tensor | None  # where there was no slot
    count: int
    targets: np.ndarray
    indices: np.ndarray
    unreadable: np.ndarray

    def unpack(self) -> Batch:
        """In the main process."""
        images = self.images if self.slot is None else Slots.pools[self.pool].lend(self.slot)
        assert images is not None
        rest = (torch.from_numpy(array) for array in (self.targets, self.indices, self.unreadable))
        return Batch(images[: self.count], *rest)

    def pin_memory(self) -> Batch:
        """Called by DataLoader's thread that pins."""
        return pinned(self.unpack())


class Work(Dataset[Any]):
    """What a worker holds: it is sent (slot, keys)."""

    def __init__(self, dataset: ImageDataset, slots: Slots) -> None:
        self.dataset, self.pool, self.slots = dataset, id(slots), slots

    def __getitems__(self, work: tuple[int | None, Sequence[Key]]) -> Filled:
        slot, keys = work
        size = self.dataset.augment.crop.size
        images = (
            new_shared((len(keys), size, size, 3)).permute(0, 3, 1, 2)
            if slot is None
            else self.slots.images(slot)[: len(keys)]
        )
        batch = self.dataset.fill(keys, images)
        small = (tensor.numpy() for tensor in batch[1:])
        return Filled(self.pool, slot, images if slot is None else None, len(batch.images), *small)


class Slotted:
    """Batches of keys, each with the slot that is to be filled."""

    def __init__(self, batches: TrainBatches | EvalBatches, slots: Slots) -> None:
        self.batches, self.slots = batches, slots

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int | None, list[Key]]]:
        for keys in self.batches:
            yield self.slots.take(), keys


class BatchLoader:
    """Iterates over a dataset's batches, in order, made by worker processes ahead of time or here.

    Deliberately no DataLoader, so that Lightning doesn't put samplers of its own into it.
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
            self.slots = Slots(PREFETCH * num_workers + SPARE, max(1, batches.most), dataset.augment.crop.size)
            self.workers = DataLoader(
                Work(dataset, self.slots),
                batch_sampler=Slotted(batches, self.slots),  # type: ignore[arg-type]
                collate_fn=as_it_is,
                worker_init_fn=leave_signals,
                num_workers=num_workers,
                prefetch_factor=PREFETCH,
                pin_memory=pin_memory,
                persistent_workers=persistent,
                generator=torch.Generator(),  # else every epoch draws from the one that dropout draws from
            )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        if self.workers is None:
            for keys in self.batches:
                batch = self.dataset.__getitems__(keys)
                yield pinned(batch) if self.pin else batch
            return
        if not self.open:  # else another iteration's workers write to the slots that it has been given
            self.slots.renew()
        self.open += 1
        try:
            for filled in from_workers(self.workers):
                yield filled.unpack() if isinstance(filled, Filled) else filled
        finally:
            self.open -= 1


class TrainLoader:
    """Iterates over what is left of the current epoch.

    The place is asked for at the first batch, not when the iterator is made: Lightning makes it before it has taken up
    a checkpoint's counters.
    """

    def __init__(self, loader: Iterable[Batch], batches: TrainBatches, place: Callable[[], tuple[int, int]]) -> None:
        """`place` says (epoch, batches of it that are done)."""
        self.loader, self.batches, self.place = loader, batches, place

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Raises ValueError where images were left out until not one of the epoch was there: nothing was learnt."""
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


def as_it_is(batch: Any) -> Any:
    """The dataset has made the batch already; a module's function, for workers that are spawned pickle it."""
    return batch


def pinned(batch: Batch) -> Batch:
    """In memory that a GPU copies from while the program goes on."""
    return Batch(*(tensor.pin_memory() for tensor in batch))


def new_shared(shape: tuple[int, ...]) -> Tensor:
    """uint8 memory that other processes see, not cleared page by page before it is used."""
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)), device="cpu")  # as torch's own collate does
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def check_shared_memory(needed: int) -> None:
    """A container often has 64 MB of it; going over kills a worker with a bus error.

    Raises:
        ValueError: there is less than `needed` bytes.
    """
    if not os.path.isdir(SHARED_MEMORY):
        return
    there = os.statvfs(SHARED_MEMORY)
    free = there.f_bavail * there.f_frsize
    if needed > free:
        raise ValueError(
            f"the workers' batches need {needed >> 20} MB of shared memory and {SHARED_MEMORY} has {free >> 20} MB: "
            "lower data.num_workers (0 needs none) or data.batch_size, or give more "
            "(docker run --ipc=host, or --shm-size=8g)"
        )
