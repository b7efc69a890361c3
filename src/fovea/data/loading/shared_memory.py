"""Shared memory in which worker processes hand batches of images to the main process."""

import os
import weakref
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

SHARED_MEMORY = "/dev/shm"


class BufferPool:
    """Buffers in shared memory, each for one batch of images, that are used again and again.

    New shared memory for each batch would cost a quarter of the time that raw pixels take, because the kernel clears
    every new page. A buffer is free again when no tensor uses it any more; while all are in use, workers allocate.

    Attributes:
        memory: (N, B, S, S, 3) uint8, the N buffers.
        free: the numbers of those that a worker may be told to fill.
        in_use: the numbers of those that a tensor of this process uses.
    """

    pools: ClassVar["weakref.WeakValueDictionary[int, BufferPool]"] = weakref.WeakValueDictionary()  # this process's

    def __init__(self, count: int, batch: int, size: int) -> None:
        """Room for `count` batches of `batch` images of `size` pixels square.

        Raises:
            ValueError: the machine has less shared memory.
        """
        check_shared_memory(count * batch * size * size * 3)
        self.memory = new_shared((count, batch, size, size, 3))
        self.free: set[int] = set()
        self.in_use: set[int] = set()
        self.pools[id(self)] = self

    def reset(self) -> None:
        """Free what no tensor uses; an iteration that was abandoned does not return its buffers."""
        self.free = set(range(len(self.memory))) - self.in_use

    def take(self) -> int | None:
        """The number of a free buffer, for a worker to fill; None if there is none."""
        return self.free.pop() if self.free else None

    def buffer(self, number: int) -> Tensor:
        """(B, 3, S, S), to be filled."""
        return self.memory[number].permute(0, 3, 1, 2)

    def filled(self, number: int) -> Tensor:
        """(B, 3, S, S), filled; when this tensor and every view of it are deleted, the buffer is free.

        All views of a tensor share one storage, and that of a tensor made by `from_numpy` keeps the array alive. So the
        array is deleted with the last view, and its finalizer frees the buffer.
        """
        array = self.memory[number].numpy()
        finalizer = weakref.finalize(array, self._release, number)
        finalizer.atexit = False
        self.in_use.add(number)
        return torch.from_numpy(array).permute(0, 3, 1, 2)

    def _release(self, number: int) -> None:
        self.in_use.discard(number)
        self.free.add(number)


def new_shared(shape: tuple[int, ...]) -> Tensor:
    """uint8 memory that other processes see; its content is undefined."""
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)), device="cpu")  # as torch's own collate does
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def check_shared_memory(needed: int) -> None:
    """Refuse sizes that would kill a worker with a bus error; a container often has 64 MB.

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
