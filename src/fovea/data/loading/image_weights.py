"""Reads sampling weights of images from a CSV file."""

import csv
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)


def read_image_weights(file: Path, paths: StringArray) -> Tensor:
    """Return the weights of the images `paths`, (N,) float64.

    The file begins with the line `path,weight`; paths are relative to the data's root, or exactly as in `paths`. Every
    image must be in it; weight 0 excludes an image. Lines for other images (such as validation images) are ignored with
    a warning.

    Paths are compared by Python's 64-bit hash, which saves gigabytes for ten million paths; the probability that any
    two of them collide is one in a hundred thousand.

    Raises:
        ValueError: the file does not exist, has another header, an invalid row or an image twice, or lacks an image.
    """
    if not file.is_file():
        raise ValueError(f"data.sampler.file={file}: there is no such file")
    rows = np.fromiter(_rows(file, paths.prefix), np.dtype([("path", np.int64), ("weight", np.float64)]))
    hashes = np.fromiter(map(hash, paths), np.int64, len(paths))
    order = rows["path"].argsort(kind="stable")
    listed = rows["path"][order]
    repeated = np.flatnonzero(listed[1:] == listed[:-1])
    if len(repeated):
        first, second = order[repeated[0]] + 2, order[repeated[0] + 1] + 2
        raise ValueError(f"{file}: rows {first} and {second} are the same image: remove one")
    positions = np.searchsorted(listed, hashes)
    found = np.append(listed, 0)[positions] == hashes
    found &= positions < len(listed)
    _check_all(file, found, paths)
    unused = len(listed) - len(np.unique(positions))
    if unused:
        log.warning("%s: %d of its %d rows are not training images and are ignored", file, unused, len(listed))
    return torch.from_numpy(rows["weight"][order][positions])


def _rows(file: Path, prefix: str) -> Iterator[tuple[int, float]]:
    """Yield (hash of the full path, weight) of each row."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        rows = _read_csv(file, csv.reader(lines))
        header = next(rows, [])
        if header != ["path", "weight"]:
            raise ValueError(f"{file}: its first line is {','.join(header)!r} but must be path,weight")
        for number, row in enumerate(rows, 2):
            if len(row) != 2 or not 0 <= (weight := _number(row[1])) < math.inf:
                raise ValueError(f"{file}: row {number} is {','.join(row)!r}: expected a path and a number >= 0")
            yield hash(row[0] if row[0].startswith(prefix) else prefix + row[0]), weight


def _read_csv(file: Path, rows: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise ValueError(f"{file} is not CSV: {error}") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _check_all(file: Path, found: np.ndarray, paths: StringArray) -> None:
    missing = np.flatnonzero(~found)
    if len(missing):
        first = paths[int(missing[0])].removeprefix(paths.prefix)
        raise ValueError(
            f"{file} has no weight for {len(missing)} of {len(paths)} training images, such as {first!r}: "
            "add them (weight 0 excludes an image)"
        )
