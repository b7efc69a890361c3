"""Reusable buffers in shared memory that pass batches of images from workers to the main process."""

import os
import weakref
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

SHARED_MEMORY = "/dev/shm"


class BufferPool:
    """Buffers in shared memory, each for one batch of images, that are used repeatedly.

    Allocating shared memory for each batch would take a quarter of the time of loading raw pixels, because the kernel
    clears every new page. A buffer is free again when no tensor uses it; if none is free, the worker allocates memory.

    Attributes:
        memory: (N, P) uint8, the N buffers.
        free: the numbers of the buffers that workers may fill.
        in_use: the numbers of the buffers that a tensor of this process uses.
    """

    pools: ClassVar["weakref.WeakValueDictionary[int, BufferPool]"] = weakref.WeakValueDictionary()  # of this process

    def __init__(self, count: int, pixels: int) -> None:
        """Allocate `count` buffers for batches of up to `pixels` pixels.

        Raises:
            ValueError: the machine has too little shared memory.
        """
        check_shared_memory(count * pixels * 3)
        self.memory = new_shared((count, pixels * 3))
        self.free: set[int] = set()
        self.in_use: set[int] = set()
        self.pools[id(self)] = self

    def reset(self) -> None:
        """Free all buffers that no tensor uses, such as those of an iteration that was abandoned."""
        self.free = set(range(len(self.memory))) - self.in_use

    def take(self) -> int | None:
        """Reserve a free buffer and return its number; None if there is none."""
        return self.free.pop() if self.free else None

    def buffer(self, number: int, count: int, size: int) -> Tensor:
        """Return the first part of a buffer as images (count, 3, size, size) for a worker to fill."""
        return self._part(number, count, size).permute(0, 3, 1, 2)

    def filled(self, number: int, count: int, size: int) -> Tensor:
        """Return a filled buffer (count, 3, size, size), which is freed when it and all views of it are deleted.

        All views of a tensor share its storage, and the storage of a tensor made by `from_numpy` keeps the array alive.
        The array is therefore deleted with the last view, and its finalizer frees the buffer.
        """
        array = self._part(number, count, size).numpy()
        finalizer = weakref.finalize(array, self._release, number)
        finalizer.atexit = False
        self.in_use.add(number)
        return torch.from_numpy(array).permute(0, 3, 1, 2)

    def _part(self, number: int, count: int, size: int) -> Tensor:
        """Return the first part of a buffer as (count, size, size, 3)."""
        return self.memory[number, : count * size * size * 3].view(count, size, size, 3)

    def _release(self, number: int) -> None:
        self.in_use.discard(number)
        self.free.add(number)


def new_shared(shape: tuple[int, ...]) -> Tensor:
    """Allocate uint8 memory that other processes can access; its content is undefined."""
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)), device="cpu")  # as in torch's default_collate
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def check_shared_memory(needed: int) -> None:
    """Raise ValueError if less than `needed` bytes are free; containers often have 64 MB.

    Otherwise a worker would be killed by a bus error.
    """
    if not os.path.isdir(SHARED_MEMORY):
        return
    status = os.statvfs(SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise ValueError(
            f"the workers' batches need {needed >> 20} MB of shared memory and {SHARED_MEMORY} has {free >> 20} MB: "
            "lower data.num_workers (0 needs none) or data.batch_size, or give more "
            "(docker run --ipc=host, or --shm-size=8g)"
        )
