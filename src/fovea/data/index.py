"""The index of a dataset: the paths and targets of each split, as every data source returns them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from fovea.data.string_array import StringArray, join

Task = Literal["multiclass", "multilabel"]
Unknown = Literal["nothing", "images", "labels"]  # no label; all labels of some images; some labels of an image
CHUNK = 65536  # rows; an (N, K) bool tensor of all rows may take gigabytes
UNKNOWN: tuple[Unknown, ...] = ("nothing", "images", "labels")  # ordered: each includes those before it


class Store(Protocol):
    """Images packed for fast reading."""

    @property
    def encoded(self) -> bool:
        """Whether the store holds encoded files rather than pixels."""

    def read(self, row: int) -> Tensor:
        """Return an image file's bytes (L,) uint8, or pixels (3, H, W) uint8."""

    def sums(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N,) lengths in bytes and (N,) CRC-32s of the packed images."""


class Index:
    """The images of one split in a fixed order, stored as columns.

    Attributes:
        paths: N file paths; with a store, the images' names in it.
        targets: (N,) int32 class indices, or (N, K) int8: 1 present, 0 absent, -1 unknown.
        store: the store that holds the images; None if they are read from their files.
        rows: (N,) int32, the images' numbers in the store; empty without a store.
        groups: N names; images of one group, such as a patient's, must not be divided. None: there are no groups.
    """

    def __init__(
        self,
        paths: Sequence[str],
        targets: Tensor,
        store: Store | None = None,
        rows: Tensor | None = None,
        groups: StringArray | None = None,
    ) -> None:
        """`targets` and `rows` may have any numeric dtype; without `rows`, the index holds all images of the store."""
        self.paths = paths if isinstance(paths, StringArray) else StringArray.of(paths)
        self.targets = targets.to(torch.int8 if targets.ndim == 2 else torch.int32)
        self.store = store
        self.rows = torch.arange(len(paths) if store else 0, dtype=torch.int32) if rows is None else rows.int()
        self.groups = groups

    def __len__(self) -> int:
        return len(self.targets)

    def labels(self, positions: Tensor) -> Tensor:
        """Return the targets of a batch in the dtype that losses expect: (B,) int64 or (B, K) float."""
        targets = self.targets[positions]
        return targets.float() if targets.ndim == 2 else targets.long()

    def take(self, positions: Tensor) -> "Index":
        """Return the images at `positions` (n,) int64, in that order."""
        rows = self.rows.index_select(0, positions) if self.store else None
        groups = self.groups and self.groups.take(positions)
        return Index(self.paths.take(positions), self.targets.index_select(0, positions), self.store, rows, groups)

    def with_targets(self, targets: Tensor) -> "Index":
        """Return the same images with other targets."""
        return Index(self.paths, targets, self.store, self.rows if self.store else None, self.groups)

    def with_groups(self, groups: StringArray) -> "Index":
        """Return the same images with other groups."""
        return Index(self.paths, self.targets, self.store, self.rows if self.store else None, groups)


def concatenate(indices: Sequence[Index]) -> Index:
    """Concatenate indices that share one store, or that all have none; the same for groups."""
    store = indices[0].store
    assert all(index.store is store for index in indices)
    rows = torch.cat([index.rows for index in indices]) if store else None
    groups = [index.groups for index in indices if index.groups is not None]
    assert len(groups) in (0, len(indices))
    paths, targets = join([index.paths for index in indices]), torch.cat([index.targets for index in indices])
    return Index(paths, targets, store, rows, join(groups) if groups else None)


def distinct(splits: Mapping[str, Index]) -> dict[str, Index]:
    """Return the splits without those that are the same index as an earlier one: test may be val."""
    first: dict[int, str] = {}
    for name, index in splits.items():
        first.setdefault(id(index), name)
    return {name: index for name, index in splits.items() if first[id(index)] == name}


def class_counts(targets: Tensor, num_classes: int) -> dict[str, list[int]]:
    """Count for each class the images where it is present and where it is absent; unknown labels count as neither.

    `targets` are (N,) class indices or (N, K) labels.
    """
    if targets.ndim == 1:
        present = targets.long().bincount(minlength=num_classes)
        return {"present": present.tolist(), "absent": (len(targets) - present).tolist()}
    parts = targets.split(CHUNK)
    counts = {name: sum((rows == value).sum(0) for rows in parts) for name, value in (("present", 1), ("absent", 0))}
    return {name: torch.as_tensor(count).tolist() for name, count in counts.items()}


def unknown_kind(targets: Tensor) -> Unknown:
    """Return whether targets (N,) or (N, K) lack nothing, all labels of some images, or some labels of an image."""
    if targets.ndim == 1 or not len(targets) or targets.min() != -1:
        return "nothing"
    only_whole_images = all(((rows == -1).any(1) == (rows == -1).all(1)).all() for rows in targets.split(CHUNK))
    return "images" if only_whole_images else "labels"


@dataclass(frozen=True)
class Splits:
    """A dataset as a source returns it; a split that the source does not have is None.

    `class_names[k]` is the name of class index k (single-label) or target column k (multi-label).
    """

    task: Task
    class_names: tuple[str, ...]
    train: Index | None
    val: Index | None = None
    test: Index | None = None
