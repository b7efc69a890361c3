"""How often each image is to be drawn, from a CSV file."""

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
    """(N,) float64, the weights of the images `paths`.

    The file begins with the line `path,weight`; paths are relative to the data's root, or as `paths` has them. Every
    image must be there: 0 leaves one out. Lines of other images (validation's, say) are passed over, with a count.

    Paths are compared by Python's 64-bit hash: ten million of them take two columns instead of gigabytes, and the odds
    that any two are mixed up are one in a hundred thousand.

    Raises:
        ValueError: the file is not there, has another header, a wrong row or an image twice, or lacks an image.
    """
    if not file.is_file():
        raise ValueError(f"data.sampler.file={file}: there is no such file")
    rows = np.fromiter(_rows(file, paths.prefix), np.dtype([("path", np.int64), ("weight", np.float64)]))
    wanted = np.fromiter(map(hash, paths), np.int64, len(paths))
    order = rows["path"].argsort(kind="stable")
    listed = rows["path"][order]
    twice = np.flatnonzero(listed[1:] == listed[:-1])
    if len(twice):
        raise ValueError(f"{file}: row {order[twice[0] + 1] + 2} names an image that row {order[twice[0]] + 2} named")
    places = np.searchsorted(listed, wanted)
    found = np.append(listed, 0)[places] == wanted
    found &= places < len(listed)
    _check_all(file, found, paths)
    unused = len(listed) - len(np.unique(places))
    if unused:
        log.warning("%s: %d of its %d rows are of no training image", file, unused, len(listed))
    return torch.from_numpy(rows["weight"][order][places])


def _rows(file: Path, prefix: str) -> Iterator[tuple[int, float]]:
    """(hash of the whole path, weight) of each row."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        rows = _parsed(file, csv.reader(lines))
        header = next(rows, [])
        if header != ["path", "weight"]:
            raise ValueError(f"{file}: its first line is {','.join(header)!r}: path,weight is expected")
        for number, row in enumerate(rows, 2):
            if len(row) != 2 or not 0 <= (weight := _number(row[1])) < math.inf:
                raise ValueError(
                    f"{file}: row {number} is {','.join(row)!r}: a path and a number from 0 on are expected"
                )
            yield hash(row[0] if row[0].startswith(prefix) else prefix + row[0]), weight


def _parsed(file: Path, rows: Iterator[list[str]]) -> Iterator[list[str]]:
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
            "add them (0 leaves an image out)"
        )
