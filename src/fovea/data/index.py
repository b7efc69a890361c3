"""What a data source says: which images there are and what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from fovea.data.string_array import StringArray, join

Task = Literal["multiclass", "multilabel"]
Unknown = Literal["nothing", "images", "labels"]  # nothing; all labels of some images; some labels of an image
ROWS_AT_ONCE = 65536  # (N, K) of bool may be gigabytes
UNKNOWN: tuple[Unknown, ...] = ("nothing", "images", "labels")  # each includes those before it


class Store(Protocol):
    """Images packed for fast reading."""

    @property
    def encoded(self) -> bool:
        """Whether files are held, and not pixels."""

    def read(self, row: int) -> Tensor:
        """(L,) uint8, an image file's bytes; or (3, H, W) uint8, pixels."""

    def sums(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) lengths in bytes and (N,) CRC-32s of the images as they were packed."""


class Index:
    """The images of one split, in a fixed order, as columns.

    Attributes:
        paths: N files; in a store, their names there.
        targets: (N,) int32 class indices, or (N, K) int8: 1 present, 0 absent, -1 unknown.
        store: what the images are read from; None for the files themselves.
        rows: (N,) int32, which of the store's images these are; empty without one.
    """

    def __init__(
        self, paths: Sequence[str], targets: Tensor, store: Store | None = None, rows: Tensor | None = None
    ) -> None:
        """`targets` and `rows` of any type of number; `rows` are all of the store's where none are given."""
        self.paths = paths if isinstance(paths, StringArray) else StringArray.of(paths)
        self.targets = targets.to(torch.int8 if targets.ndim == 2 else torch.int32)
        self.store = store
        self.rows = torch.arange(len(paths) if store else 0, dtype=torch.int32) if rows is None else rows.int()

    def __len__(self) -> int:
        return len(self.targets)

    def labels(self, places: Tensor) -> Tensor:
        """What a batch of these images is compared with: (B,) int64 or (B, K) float."""
        targets = self.targets[places]
        return targets.float() if targets.ndim == 2 else targets.long()

    def take(self, places: Tensor) -> "Index":
        """The images at `places` (n,) int64, in that order."""
        rows = self.rows.index_select(0, places) if self.store else None
        return Index(self.paths.take(places), self.targets.index_select(0, places), self.store, rows)

    def with_targets(self, targets: Tensor) -> "Index":
        """The same images, of which other things are known."""
        return Index(self.paths, targets, self.store, self.rows if self.store else None)


def concatenate(indices: Sequence[Index]) -> Index:
    """One after the other; all from one store, or none."""
    store = indices[0].store
    assert all(index.store is store for index in indices)
    rows = torch.cat([index.rows for index in indices]) if store else None
    return Index(join([index.paths for index in indices]), torch.cat([i.targets for i in indices]), store, rows)


def class_counts(targets: Tensor, num_classes: int) -> dict[str, list[int]]:
    """How many of a split's targets, (N,) or (N, K), are known to have each class, and how many known not to."""
    if targets.ndim == 1:
        present = targets.long().bincount(minlength=num_classes)
        return {"present": present.tolist(), "absent": (len(targets) - present).tolist()}
    parts = targets.split(ROWS_AT_ONCE)
    counts = {name: sum((rows == value).sum(0) for rows in parts) for name, value in (("present", 1), ("absent", 0))}
    return {name: torch.as_tensor(count).tolist() for name, count in counts.items()}


def what_is_unknown(targets: Tensor) -> Unknown:
    """Of a split's targets, (N,) or (N, K)."""
    if targets.ndim == 1 or not len(targets) or targets.min() != -1:
        return "nothing"
    whole = all(((rows == -1).any(1) == (rows == -1).all(1)).all() for rows in targets.split(ROWS_AT_ONCE))
    return "images" if whole else "labels"


@dataclass(frozen=True)
class Splits:
    """A dataset as a source reads it; a split is None where the source has no such.

    `class_names[k]` is the name of target column or index k, in the source's own fixed order.
    """

    task: Task
    class_names: tuple[str, ...]
    train: Index | None
    val: Index | None = None
    test: Index | None = None
