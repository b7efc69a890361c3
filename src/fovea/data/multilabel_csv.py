"""Multi-label images from a CSV file: one column per class, or one column with a list of class names."""

import csv
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fovea.data.index import Index, Splits
from fovea.data.strings import Strings

log = logging.getLogger(__name__)

SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
MARK_OF = {"1": "1", "1.0": "1", "0": "0", "0.0": "0", "-1": "?", "-1.0": "?", "": "?"}


@dataclass(frozen=True)
class Columns:
    """Where in a row things are: `labels` holds the class columns, or the one that lists names."""

    header: Sequence[str]
    path: int
    split: int | None
    labels: Sequence[int]


@dataclass(frozen=True)
class Rows:
    """The rows, column by column: line in the file (from 1), image, train/val/test, and labels.

    `labels` is as compact as a million rows of 80 classes need: K marks 1, 0 or ?, or the list of names as it came.
    """

    lines: list[int]
    paths: list[str]
    splits: list[str]
    labels: list[str]


def read_multilabel_csv(
    root: Path,
    csv: str = "labels.csv",
    path_column: str = "path",
    split_column: str = "split",
    label_column: str | None = None,
    separator: str = " ",
) -> Splits:
    """Read a UTF-8 file with a header, delimited by comma, semicolon or tab.

    Args:
        root: folder that relative paths start from and may not leave.
        csv: the file, relative to `root` or absolute.
        path_column: the image, relative to `root` or absolute.
        split_column: train, val (valid, validation) or test; without a column `split` every row is train.
        label_column: None: every further column is a class, holding 1, 0, or -1 or nothing where it is unknown;
            classes keep the columns' order. A name: that column lists the classes present, the others are absent;
            the classes are all names seen in any split, sorted.
        separator: between the names in `label_column`.

    Raises:
        ValueError: naming the file and the line, the column or the count.
    """
    file = root / csv
    if not file.is_file():
        raise ValueError(f"{file} is not there. Give data.root=<folder> and data.read.csv=<file in it>.")
    table = _read_table(file, path_column)
    columns = _find_columns(file, next(table)[1], path_column, split_column, label_column)
    rows = _read_rows(file, table, columns, root, listed=label_column is not None)
    _check_paths(file, rows)
    if label_column is None:
        names, labels = tuple(columns.header[k] for k in columns.labels), _from_marks(rows.labels)
    else:
        names, labels = _from_lists(file, [text.split(separator) for text in rows.labels])
    indices = _split(rows, labels, os.path.join(root, ""))
    return Splits("multilabel", names, indices.get("train"), indices.get("val"), indices.get("test"))


def leads_out(path: str) -> bool:
    """Whether a path, relative to some folder, is absolute or goes above that folder."""
    return os.path.isabs(path) or os.path.normpath(path).split(os.sep, 1)[0] == ".."


def missing_files(paths: Sequence[str]) -> list[str]:
    """Those of `paths` that are not there, by one listing per folder and not one question per file."""
    held = {folder: frozenset[str]() for folder in {os.path.dirname(path) for path in paths}}
    for folder in filter(os.path.isdir, held):
        held[folder] = frozenset(os.listdir(folder))
    return [path for path in paths if os.path.basename(path) not in held[os.path.dirname(path)]]


def _read_table(file: Path, path_column: str) -> Iterator[tuple[int, list[str]]]:
    """The header, then each row that is not blank, with its line in the file."""
    with open(file, newline="", encoding="utf-8-sig") as stream:
        try:
            delimiter = _find_delimiter(stream.readline(), path_column)
            stream.seek(0)
            reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True, strict=True)
            width = 0
            for row in filter(None, reader):
                width = width or len(row)
                if len(row) != width:
                    raise ValueError(f"{file}, line {reader.line_num}: {len(row)} fields; the header has {width}.")
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is not CSV in UTF-8: {error}.") from error
    if not width:
        raise ValueError(f"{file} is empty.")


def _find_delimiter(header: str, path_column: str) -> str:
    """The one that makes a column `path_column`, else the one that makes most columns."""
    columns = {mark: next(csv.reader([header], delimiter=mark, skipinitialspace=True), []) for mark in ",;\t"}
    return max(columns, key=lambda mark: (path_column in columns[mark], len(columns[mark])))


def _find_columns(
    file: Path, header: list[str], path_column: str, split_column: str, label_column: str | None
) -> Columns:
    for name in (path_column, label_column, None if split_column == "split" else split_column):
        if name is not None and name not in header:
            raise ValueError(f"{file} has no column {name!r}; its columns are {', '.join(header[:20])}.")
    if repeated := [repr(name) for name, uses in Counter(header).items() if uses > 1 or not name]:
        raise ValueError(f"{file}: column names must be there and differ; see {', '.join(repeated[:3])}.")
    path = header.index(path_column)
    split = header.index(split_column) if split_column in header else None
    if split is None:
        log.info("%s has no column %r: every row is train", file, split_column)
    if label_column is not None:
        return Columns(header, path, split, [header.index(label_column)])
    labels = [k for k in range(len(header)) if k not in (path, split)]
    if not labels:
        raise ValueError(f"{file} has no class columns; its columns are {', '.join(header)}.")
    return Columns(header, path, split, labels)


def _read_rows(file: Path, table: Iterator[tuple[int, list[str]]], columns: Columns, root: Path, listed: bool) -> Rows:
    rows = Rows([], [], [], [])
    for line, row in table:
        place = f"{file}, line {line}"
        rows.lines.append(line)
        rows.paths.append(_resolve(row[columns.path], root, place))
        rows.splits.append("train" if columns.split is None else _read_split(row[columns.split], place))
        rows.labels.append(row[columns.labels[0]] if listed else _mark(row, columns, place))
    if not rows.lines:
        raise ValueError(f"{file} has a header and no rows.")
    return rows


def _resolve(path: str, root: Path, place: str) -> str:
    plain = os.path.normpath(path)
    if not os.path.isabs(path) and leads_out(path):
        raise ValueError(f"{place}: {path!r} leads out of {root}. Give an absolute path, or a wider data.root.")
    return os.path.join(root, plain)


def _read_split(name: str, place: str) -> str:
    if name not in SPLIT_OF:
        raise ValueError(f"{place}: {name!r} is no split; there are {', '.join(SPLIT_OF)}.")
    return SPLIT_OF[name]


def _mark(row: Sequence[str], columns: Columns, place: str) -> str:
    try:
        return "".join([MARK_OF[row[k]] for k in columns.labels])
    except KeyError as error:
        at = next(k for k in columns.labels if row[k] not in MARK_OF)
        raise ValueError(
            f"{place}, column {columns.header[at]!r}: {row[at]!r} is no label.\n"
            "Write 1 for present, 0 for absent, -1 or nothing for unknown;"
            " for a column with a list of names give data.read.label_column=<its name>."
        ) from error


def _check_paths(file: Path, rows: Rows) -> None:
    line_of = dict(zip(rows.paths, rows.lines, strict=True))
    if missing := missing_files(rows.paths):
        first = "".join(f"\n  line {line_of[path]}: {path}" for path in missing[:3])
        raise ValueError(f"{file}: {len(missing)} of {len(rows.paths)} images are not there, first:{first}")


def _from_marks(marks: Sequence[str]) -> Tensor:
    codes = torch.frombuffer(bytearray("".join(marks), "ascii"), dtype=torch.uint8).view(len(marks), -1)  # (N, K)
    return (codes == ord("1")).to(torch.int8) - (codes == ord("?")).to(torch.int8)


def _from_lists(file: Path, lists: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], Tensor]:
    names = tuple(sorted({name.strip() for row in lists for name in row} - {""}))
    if not names:
        raise ValueError(f"{file}: no row names a class.")
    index_of = {name: k for k, name in enumerate(names)}
    pairs = [(i, index_of[name.strip()]) for i, row in enumerate(lists) for name in row if name.strip()]
    labels = torch.zeros(len(lists), len(names), dtype=torch.int8)
    labels[tuple(torch.tensor(pairs).T)] = 1
    return names, labels


def _split(rows: Rows, labels: Tensor, prefix: str) -> dict[str, Index]:
    """The splits that have rows, each in the file's order."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(rows.splits):
        places.setdefault(name, []).append(i)
    return {name: Index(Strings.of([rows.paths[i] for i in at], prefix), labels[at]) for name, at in places.items()}
