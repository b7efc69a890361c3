"""Limits the training images to those that a file lists (data.subset), such as a published long-tailed subset."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from fovea.data.index import Index, Splits, class_counts
from fovea.data.named_images import find_images
from fovea.data.string_array import StringArray

LABELLED = re.compile(r"(.*\S)\s+(\d+)")  # a line of ImageNet-LT's and Places-LT's lists
SHOWN = 3  # paths in a message
MOST = 5  # classes that a warning names


class Listed(NamedTuple):
    """The lines of a list that are not blank: the numbers of the lines, from 1, the paths, and the labels, if any."""

    lines: list[int]
    paths: list[str]
    labels: list[int] | None

    @property
    def without_endings(self) -> bool:
        """Whether no path has an ending, so that the images may have any."""
        return not any(os.path.splitext(path)[1] for path in self.paths)


class Subset(NamedTuple):
    """The data with a part of their training images, the others, a sentence for the log, and warnings."""

    data: Splits
    left_out: Index
    text: str
    warnings: list[str]


def take_subset(data: Splits, subset: str, root: str | None) -> Subset:
    """Keep the training images that a list names, in the order of the data.

    A path names an image as `find_images` says. If no path of the list has an ending, the endings of the images are
    not compared. If the list has labels, they have to be the class indices of the data.

    Args:
        data: as read from the source.
        subset: the list, see `read_list`.
        root: the folder of the data, for the paths.

    Raises:
        ValueError: the file is invalid, a path is of no training image or of several, or a label is not the image's.
    """
    file = Path(subset).expanduser()
    if data.train is None:
        raise ValueError(f"data.subset={file}: the data has no training images to choose from")
    listed = read_list(file)
    found = _find(data.train, listed, root)
    _check_names(file, data, listed, found, root)
    _check_labels(file, data, listed, found)
    kept = torch.zeros(len(data.train), dtype=torch.bool)
    kept[list(found)] = True
    chosen, others = (data.train.take(mask.nonzero().flatten()) for mask in (kept, ~kept))
    text = f"data.subset={file}: {len(chosen):,} of {len(data.train):,} training images are used"
    warnings = [*_repeated(file, listed, found), *_empty_classes(file, data.class_names, data.train, chosen)]
    return Subset(replace(data, train=chosen), others, text, warnings)


def read_list(file: Path) -> Listed:
    """Read a list of images: a path on each line; or a path, a blank and a class index on each line.

    Raises:
        ValueError: the file does not exist or has no line.
    """
    if not file.is_file():
        raise ValueError(f"data.subset={file}: there is no such file")
    text = file.read_text("utf-8-sig", "surrogateescape")
    rows = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise ValueError(f"data.subset={file}: the file is empty: write the path of an image on each line")
    lines, paths = zip(*rows, strict=True)
    labelled = [match for path in paths if (match := LABELLED.fullmatch(path))]
    if len(labelled) < len(paths):
        return Listed(list(lines), list(paths), None)
    return Listed(list(lines), [match[1] for match in labelled], [int(match[2]) for match in labelled])


def _find(index: Index, listed: Listed, root: str | None) -> dict[int, list[int]]:
    """Return {position of an image: positions in the list}."""
    paths = index.paths
    if listed.without_endings:
        paths = StringArray.of((os.path.splitext(path)[0] for path in paths), paths.prefix)
    return find_images(paths, listed.paths, root, in_store=bool(index.store))


def _check_names(file: Path, data: Splits, listed: Listed, found: Mapping[int, list[int]], root: str | None) -> None:
    """Raise ValueError if a path is of no training image, or of several that differ in their endings."""
    assert data.train is not None
    paths, image_of = data.train.paths, dict[int, int]()
    for position, row in ((position, row) for position, rows in found.items() for row in rows):
        if row in image_of:
            both = f"{paths[image_of[row]]} and {paths[position]}"
            raise ValueError(f"data.subset={file}, {_line(listed, row)} is {both}: write the ending of each image")
        image_of[row] = position
    missing = [row for row in range(len(listed.paths)) if row not in image_of]
    if missing:
        _check_held_out(file, data, listed, root)
        such = f", such as {paths[0]}" if len(paths) else ""
        numbers = "" if listed.labels is None else "; the number at the end of each line is read as its class index"
        raise ValueError(
            f"data.subset={file}: {len(missing):,} of {len(listed.paths):,} paths are not in the data: "
            f"{_named(listed, missing)}\nRemove these lines, or write paths as in the data{such}"
            + (f", or relative to {root}" if root else "")
            + numbers
        )


def _check_held_out(file: Path, data: Splits, listed: Listed, root: str | None) -> None:
    """Raise ValueError if a path is of a validation or test image."""
    for split, index in (("val", data.val), ("test", data.test)):
        rows = sorted({row for rows in _find(index, listed, root).values() for row in rows}) if index else []
        if index and rows:
            raise ValueError(
                f"data.subset={file}: {len(rows):,} of {len(listed.paths):,} paths are images of the {split} split, "
                f"which may not be trained on: {_named(listed, rows)}\nRemove these lines"
                + (", or type data.subset=null if the store was packed with this subset" if index.store else "")
            )


def _check_labels(file: Path, data: Splits, listed: Listed, found: Mapping[int, list[int]]) -> None:
    """Raise ValueError if the list has a label that is not the class index of its image."""
    if listed.labels is None:
        return
    assert data.train is not None
    remedy = "Correct the list, or remove the label from each line: the labels of the data are then used"
    if data.task == "multilabel":
        raise ValueError(f"data.subset={file} has a label on each line, but the images have several labels\n{remedy}")
    wrong = [
        (row, label)
        for position, rows in found.items()
        for row in rows
        if listed.labels[row] != (label := int(data.train.targets[position]))
    ]
    if wrong:
        row, label = wrong[0]
        raise ValueError(
            f"data.subset={file}: {len(wrong):,} of {len(listed.paths):,} labels are not those of the data: "
            f"{_line(listed, row)} has the label {listed.labels[row]}; in the data it is class {label}, "
            f"{data.class_names[label]}\n{remedy}"
        )


def _line(listed: Listed, row: int) -> str:
    return f"line {listed.lines[row]}: {listed.paths[row]!r}"


def _named(listed: Listed, rows: Sequence[int]) -> str:
    return "; ".join(_line(listed, row) for row in rows[:SHOWN]) + ("; ..." if len(rows) > SHOWN else "")


def _repeated(file: Path, listed: Listed, found: Mapping[int, list[int]]) -> Iterator[str]:
    again = sorted(row for rows in found.values() for row in rows[1:])
    if again:
        yield f"data.subset={file}: {len(again):,} lines repeat an image, which is used once: {_named(listed, again)}"


def _empty_classes(file: Path, names: Sequence[str], old: Index, new: Index) -> Iterator[str]:
    before, after = (class_counts(index.targets, len(names))["present"] for index in (old, new))
    lost = [name for name, then, now in zip(names, before, after, strict=True) if then and not now]
    if lost:
        more = ", ..." if len(lost) > MOST else ""
        yield (
            f"data.subset={file}: {len(lost)} of {len(names)} classes have no training image in it: "
            f"{', '.join(lost[:MOST])}{more}"
        )
