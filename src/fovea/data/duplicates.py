"""Images that a dataset lists more than once: equal labels are merged, contradictions are refused."""

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from fovea.data.index import Index, Splits
from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)


class Use(NamedTuple):
    """One of the places at which an image is listed."""

    split: str
    place: int
    label: tuple[int, ...]


def without_repeats(data: Splits) -> Splits:
    """The same data with each image once; a warning has the count of what was left out.

    An image is known by its path, and `./a.jpg` and `b/../a.jpg` are `a.jpg`. Links are not followed, upper and lower
    case differ, and equal pixels are not looked for. A second for a million images.

    Raises:
        ValueError: an image has different labels, or is in more than one split.
    """
    whole = {split: index for split in ("train", "val", "test") if (index := getattr(data, split)) is not None}
    indices = {split: index for split, index in whole.items() if not _stands_in(split, whole)}
    uses = _repeated(indices)
    if not uses:
        return data
    _check(data, uses)
    kept = {split: _once(index, split, uses.values()) for split, index in indices.items()}
    shared: dict[str, Any] = {split: kept[other] for split in whole for other in kept if whole[split] is whole[other]}
    first = next(iter(uses))
    log.warning(
        "%d images are listed more than once with the same label and are used once, such as %s", len(uses), first
    )
    return replace(data, **shared)


def _stands_in(split: str, whole: dict[str, Index]) -> bool:
    """Whether an earlier split is the very same index: a store's validation images that are its test images too."""
    earlier = list(whole)[: list(whole).index(split)]
    return any(whole[other] is whole[split] for other in earlier)


def _repeated(indices: dict[str, Index]) -> dict[str, list[Use]]:
    """The uses of each image that has more than one."""
    keys = np.concatenate([_keys(index.paths) for index in indices.values()])
    ordered = np.sort(keys)
    suspects = ordered[1:][ordered[1:] == ordered[:-1]]
    uses: dict[str, list[Use]] = {}
    start = 0
    for split, index in indices.items():
        own = keys[start : start + len(index)]
        start += len(index)
        for place in np.flatnonzero(np.isin(own, suspects)).tolist():
            label = tuple(index.targets[place].reshape(-1).tolist())
            uses.setdefault(os.path.abspath(index.paths[place]), []).append(Use(split, place, label))
    return {path: several for path, several in uses.items() if len(several) > 1}  # equal keys may be a coincidence


def _keys(paths: StringArray) -> np.ndarray:
    """(N,) int64, equal for equal absolute paths: Python's hash of each.

    Where the text shows that no path has a `.` or `..` in it, only the folder that all begin with is made absolute:
    that takes a third of the time.
    """
    whole: Iterable[str] = map(os.path.abspath, paths)
    if paths.prefix.endswith(os.sep) and not any(_is_odd(text.tobytes()) for text, _ in paths.chunks()):
        folder = os.path.join(os.path.abspath(paths.prefix), "")
        whole = StringArray(folder, paths.text, paths.starts, paths.rows)
    return np.fromiter(map(hash, whole), np.int64, len(paths))


def _is_odd(text: bytes) -> bool:
    """Whether one of the paths in it may be spelled in other ways than its own absolute one."""
    separator = os.sep.encode()
    return os.altsep is not None or any(separator + mark in text for mark in (b".", separator))


def _check(data: Splits, uses: dict[str, list[Use]]) -> None:
    """Raises ValueError where an image's uses differ in their label or their split."""
    contradicted = {path: some for path, some in uses.items() if len({use.label for use in some}) > 1}
    shared = {path: some for path, some in uses.items() if len({use.split for use in some}) > 1}
    if contradicted:
        raise ValueError(
            f"{len(contradicted)} images are listed more than once, with different labels, first:\n"
            f"{_described(data, contradicted)}\nKeep one label of each, or take these images out."
        )
    if shared:
        raise ValueError(
            f"{len(shared)} images are in more than one split, first:\n{_described(data, shared)}\n"
            "Keep each in one split: figures on images that were trained on say nothing about new ones."
        )


def _described(data: Splits, uses: dict[str, list[Use]]) -> str:
    lines = []
    for path, some in list(uses.items())[:3]:
        said = [f"{use.split}: {_label(data, use.label)}" for use in some[:4]]
        lines.append(f"  {path} ({'; '.join(said)}{'; ...' if len(some) > 4 else ''})")
    return "\n".join(lines)


def _label(data: Splits, label: tuple[int, ...]) -> str:
    """In words: the class, or the classes that are present."""
    names = data.class_names
    if data.task == "multiclass":
        return names[label[0]]
    parts = [name if value == 1 else f"{name} unknown" for name, value in zip(names, label, strict=True) if value]
    return ", ".join(parts[:4]) + (", ..." if len(parts) > 4 else "") or "no class"


def _once(index: Index, split: str, uses: Iterable[list[Use]]) -> Index:
    """The index with each repeated image at its first place only."""
    kept = torch.ones(len(index), dtype=torch.bool)
    for several in uses:
        kept[[use.place for use in several[1:] if use.split == split]] = False
    return index if kept.all() else index.take(kept.nonzero().flatten())
