"""A DataLoader over whole batches of keys, and the training loader that knows where an interrupted epoch stopped."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from fovea.data.dataset import Batch, ImageDataset
from fovea.data.sampler import EvalBatches, TrainBatches


def _as_it_is(batch: Any) -> Any:
    """The dataset has made the batch already; a module's function, for workers that are spawned pickle it."""
    return batch


def batch_loader(
    dataset: ImageDataset, batches: TrainBatches | EvalBatches, num_workers: int, pin_memory: bool, persistent: bool
) -> DataLoader[Batch]:
    """Workers make whole batches; `persistent` ones live on from epoch to epoch."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # it is asked for batches, through __getitems__
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=persistent and num_workers > 0,
        generator=torch.Generator(),  # else every epoch draws from the one that dropout draws from
    )


class TrainLoader:
    """Iterates over what is left of the current epoch.

    The place is asked for at the first batch, not when the iterator is made: Lightning makes it before it has taken up
    a checkpoint's counters. Deliberately no DataLoader, so that Lightning doesn't put samplers of its own into it.
    """

    def __init__(self, loader: DataLoader[Batch], batches: TrainBatches, place: Callable[[], tuple[int, int]]) -> None:
        """`place` says (epoch, batches of it that are done)."""
        self.loader, self.batches, self.place = loader, batches, place

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        self.batches.start_at(*self.place())
        yield from self.loader
