"""Applies a person's corrections of labels (data.corrections) to the splits of data. No file of the data is changed."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fovea.data.correction_file import CORRECTION, Correction, read_corrections
from fovea.data.index import Index, Task, class_counts
from fovea.data.named_images import find_images
from fovea.files import short_digest

Found = dict[int, list[Correction]]  # an image's position in an index -> the rows about it


class Outcome(NamedTuple):
    """Corrected splits.

    Attributes:
        splits: by name; an image stays in its split, so figures of runs with other corrections are of the same images.
        record: for the run's provenance: a digest of the file, the number of images whose label changed (`labels`) and
            of those that were left out (`dropped`).
        text: the same as a sentence.
        warnings: about corrections that may be meant otherwise.
    """

    splits: dict[str, Index]
    record: dict[str, Any]
    text: str
    warnings: list[str]


class Corrected(NamedTuple):
    """A corrected index.

    Attributes:
        images: the index without the images that were left out.
        labels: the number of images whose label changed.
        dropped: the number of images that were left out.
        ignored: rows whose column `label` is not the image's label, although they have no correction.
    """

    images: Index
    labels: int
    dropped: int
    ignored: list[Correction]


def correct(
    splits: Mapping[str, Index], task: Task, class_names: Sequence[str], corrections: str, root: str | None
) -> Outcome:
    """Return the splits with the corrections applied.

    The path of a row names an image as `find_images` says. For several labels, the named classes become present and
    the others absent, but a label that is unknown and not named stays unknown.

    Args:
        splits: as read from the source; two splits that are the same object stay so.
        task: of the data.
        class_names: K names.
        corrections: the file, see `read_corrections`.
        root: the folder of the data, if there is one.

    Raises:
        ValueError: the file is invalid, a row's image is not in the data, or two rows correct an image differently.
    """
    file = Path(corrections).expanduser()
    rows = read_corrections(file, task, class_names)
    indices = {id(index): index for index in splits.values()}
    found = {key: _find(index, rows, root) for key, index in indices.items()}
    _check_found(file, rows, found.values(), next(iter(indices.values())), root)
    done = {key: _correct_index(file, index, found[key], class_names) for key, index in indices.items()}
    new = {split: done[id(index)].images for split, index in splits.items()}
    labels, dropped = (sum(getattr(part, count) for part in done.values()) for count in ("labels", "dropped"))
    record = {"digest": short_digest([file.read_bytes()]), "labels": labels, "dropped": dropped}
    warnings = _ignored(file, [row for part in done.values() for row in part.ignored])
    if "train" in splits:
        warnings += _lost_classes(file, class_names, splits["train"], new["train"])
    return Outcome(new, record, _summary(file, rows, labels, dropped), warnings)


def _summary(file: Path, rows: Sequence[Correction], labels: int, dropped: int) -> str:
    given = sum(bool(row.text) for row in rows)
    return (
        f"{file}: {given:,} corrections: the labels of {labels:,} images changed, {dropped:,} images left out; "
        f"{len(rows) - given:,} rows have no correction"
    )


def _find(index: Index, rows: Sequence[Correction], root: str | None) -> Found:
    """Return the rows about each image of the index."""
    found = find_images(index.paths, [row.path for row in rows], root, in_store=bool(index.store))
    return {position: [rows[n] for n in numbers] for position, numbers in found.items()}


def _check_found(
    file: Path, rows: Sequence[Correction], found: Iterable[Found], example: Index, root: str | None
) -> None:
    """Raise ValueError if a correction is for no image of the data."""
    lines = {row.line for by_position in found for about in by_position.values() for row in about}
    given = [row for row in rows if row.text]
    unknown = [row for row in given if row.line not in lines]
    if unknown:
        such = f", such as {example.paths[0]}" if len(example) else ""
        raise ValueError(
            f"{file}: {len(unknown)} of {len(given)} corrections are for images that are not in the data, first in "
            f"line {unknown[0].line}: {unknown[0].path!r}\n"
            f"Remove these rows, or write paths as in the data{such}" + (f", or relative to {root}" if root else "")
        )


def _correct_index(file: Path, index: Index, found: Found, names: Sequence[str]) -> Corrected:
    targets, kept = index.targets.clone(), torch.ones(len(index), dtype=torch.bool)
    labels, ignored = 0, list[Correction]()
    for position, rows in found.items():
        old, given = index.targets[position], [row for row in rows if row.text]
        _check_same(file, given)
        if given and given[0].classes is None:
            kept[position] = False
        elif given:
            targets[position] = _target(old, given[0].classes or ())
            labels += not torch.equal(targets[position], old)
        said = (_names(old, names), _names(targets[position], names))
        ignored += [row for row in rows if not row.text and row.label is not None and row.label not in said]
    dropped = int((~kept).sum())
    new = index.with_targets(targets) if labels else index
    return Corrected(new.take(kept.nonzero().flatten()) if dropped else new, labels, dropped, ignored)


def _check_same(file: Path, rows: Sequence[Correction]) -> None:
    """Raise ValueError if the corrections of one image differ."""
    for row in rows[1:]:
        if row.classes != rows[0].classes:
            raise ValueError(
                f"{file}: lines {rows[0].line} and {row.line} correct one image differently, {row.path!r} to "
                f"{rows[0].text!r} and to {row.text!r}: keep one of them"
            )


def _target(old: Tensor, classes: Iterable[int]) -> Tensor:
    """Return the corrected target: () class index, or (K,) with 1 present, 0 absent, -1 unknown as before."""
    if old.ndim == 0:
        (number,) = classes
        return old.new_tensor(number)
    new = old.clamp(max=0)
    new[list(classes)] = 1
    return new


def _names(target: Tensor, names: Sequence[str]) -> frozenset[str]:
    """Return the names of the classes that are present."""
    numbers = [int(target)] if target.ndim == 0 else (target == 1).nonzero().flatten().tolist()
    return frozenset(names[k].strip() for k in numbers)


def _ignored(file: Path, rows: Sequence[Correction]) -> list[str]:
    if not rows:
        return []
    label = ", ".join(sorted(rows[0].label or ()))
    return [
        f"{file}: {len(rows)} rows have a label that is not the data's and no correction, first in line "
        f"{rows[0].line}: {rows[0].path!r} ({label}). The column label changes nothing: write new labels into the "
        f"column {CORRECTION}"
    ]


def _lost_classes(file: Path, names: Sequence[str], old: Index, new: Index) -> list[str]:
    before, after = (class_counts(index.targets, len(names))["present"] for index in (old, new))
    lost = [name for name, then, now in zip(names, before, after, strict=True) if then and not now]
    return [f"{file}: {len(lost)} classes have no training image any more: {', '.join(lost[:10])}"] if lost else []
