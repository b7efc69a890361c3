"""Removes images that a dataset lists more than once; raises an error if their labels or splits differ."""

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from fovea.data.class_names import describe_label
from fovea.data.index import Index, Splits
from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One entry of an image: its split, its position in the split's index and its label."""

    split: str
    position: int
    label: tuple[int, ...]


def drop_duplicates(data: Splits) -> Splits:
    """Return the data with each image once, and warn with the number of images that were listed again.

    Two entries are the same image if their absolute paths are equal: `./a.jpg` and `b/../a.jpg` are `a.jpg`. Links are
    not followed, letter case matters, and pixels are not compared. Takes a second for a million images.

    Raises:
        ValueError: an image has different labels, or is in more than one split.
    """
    splits = {split: index for split in ("train", "val", "test") if (index := getattr(data, split)) is not None}
    indices = {split: index for split, index in splits.items() if not _is_alias(split, splits)}
    duplicates = _find_duplicates(indices)
    if not duplicates:
        return data
    _check(data, duplicates)
    kept = {split: _keep_first(index, split, duplicates.values()) for split, index in indices.items()}
    new: dict[str, Any] = {split: kept[other] for split in splits for other in kept if splits[split] is splits[other]}
    log.warning(
        "%d images are listed more than once with the same label and are used once, such as %s",
        len(duplicates),
        next(iter(duplicates)),
    )
    return replace(data, **new)


def _is_alias(split: str, splits: dict[str, Index]) -> bool:
    """Return whether an earlier split is the same object, as test is val in a store without test images."""
    earlier = list(splits)[: list(splits).index(split)]
    return any(splits[other] is splits[split] for other in earlier)


def _find_duplicates(indices: dict[str, Index]) -> dict[str, list[Entry]]:
    """Return the entries of each image that has more than one, by absolute path."""
    hashes = np.concatenate([path_hashes(index.paths) for index in indices.values()])
    ordered = np.sort(hashes)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    entries: dict[str, list[Entry]] = {}
    start = 0
    for split, index in indices.items():
        split_hashes = hashes[start : start + len(index)]
        start += len(index)
        for position in np.flatnonzero(np.isin(split_hashes, repeated)).tolist():
            label = tuple(index.targets[position].reshape(-1).tolist())
            entries.setdefault(os.path.abspath(index.paths[position]), []).append(Entry(split, position, label))
    return {path: found for path, found in entries.items() if len(found) > 1}  # drops hash collisions


def path_hashes(paths: StringArray) -> np.ndarray:
    """Return Python's hash of each absolute path, (N,) int64.

    If no path contains `/.` or `//`, only the common prefix is made absolute, which takes a third of the time.
    """
    absolute: Iterable[str] = map(os.path.abspath, paths)
    if paths.prefix.endswith(os.sep) and not any(_needs_normalizing(text.tobytes()) for text, _ in paths.chunks()):
        folder = os.path.join(os.path.abspath(paths.prefix), "")
        absolute = StringArray(folder, paths.text, paths.starts, paths.rows)
    return np.fromiter(map(hash, absolute), np.int64, len(paths))


def _needs_normalizing(text: bytes) -> bool:
    """Return whether the text may contain a path that differs from its normalized form."""
    separator = os.sep.encode()
    return os.altsep is not None or any(separator + mark in text for mark in (b".", separator))


def _check(data: Splits, duplicates: dict[str, list[Entry]]) -> None:
    """Raise ValueError if the entries of an image differ in their label or their split."""
    conflicting = {path: found for path, found in duplicates.items() if len({entry.label for entry in found}) > 1}
    shared = {path: found for path, found in duplicates.items() if len({entry.split for entry in found}) > 1}
    if conflicting:
        raise ValueError(
            f"{len(conflicting)} images are listed more than once, with different labels, first:\n"
            f"{_describe(data, conflicting)}\nKeep one label for each, or remove these images."
        )
    if shared:
        raise ValueError(
            f"{len(shared)} images are in more than one split, first:\n{_describe(data, shared)}\n"
            "Keep each image in one split: test images must not be trained on."
        )


def _describe(data: Splits, duplicates: dict[str, list[Entry]]) -> str:
    lines = []
    for path, found in list(duplicates.items())[:3]:
        entries = [f"{entry.split}: {describe_label(data.task, data.class_names, entry.label)}" for entry in found[:4]]
        lines.append(f"  {path} ({'; '.join(entries)}{'; ...' if len(found) > 4 else ''})")
    return "\n".join(lines)


def _keep_first(index: Index, split: str, duplicates: Iterable[list[Entry]]) -> Index:
    """Return the index with only the first entry of each duplicated image."""
    kept = torch.ones(len(index), dtype=torch.bool)
    for entries in duplicates:
        kept[[entry.position for entry in entries[1:] if entry.split == split]] = False
    return index if kept.all() else index.take(kept.nonzero().flatten())
