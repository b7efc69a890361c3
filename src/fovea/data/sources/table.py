"""A CSV file with a header that lists images: which image, split and label each row has."""

import csv
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fovea.data.index import Index
from fovea.data.sources.image_paths import found_below, leads_out, missing_files
from fovea.data.sources.split_column import SplitColumns
from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Options:
    """How a table is read; the keys of `data.read` that all tables have, see conf/data/csv.yaml.

    Attributes:
        path_column: the image, relative to the root or absolute.
        ending: added to each image's name that does not end so.
        anywhere: whether names that are not there are looked for in all folders below the root.
        split_column: the column that says the split; None looks for a usual one, False takes all rows for train.
        split_values: what the values of that column stand for, where they are no usual words.
    """

    path_column: str = "path"
    ending: str = ""
    anywhere: bool = False
    split_column: str | bool | None = None
    split_values: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Rows:
    """The rows, column by column: line in the file (from 1), image, train/val/test, and label as the reader wants it.

    Labels are as compact as a million rows of 80 classes need.
    """

    lines: list[int]
    paths: list[str]
    splits: list[str]
    labels: list[str]


class Table:
    """The header of a file in UTF-8, delimited by comma, semicolon or tab; its rows follow once."""

    def __init__(self, root: Path, csv: str, options: Options) -> None:
        """Raises ValueError where the file or one of the columns that `options` name is not there."""
        self.root, self.file, self.options = root, root / csv, options
        if not self.file.is_file():
            raise ValueError(f"{self.file} is not there. Give data.root=<folder> and data.read.csv=<file in it>.")
        self._lines = _read_lines(self.file, options.path_column)
        self.header = [name.strip() for name in next(self._lines)[1]]
        self.path = self.column("path_column", options.path_column)
        if options.split_column is True:
            raise ValueError("data.read.split_column=true: give the column's name, or false to use none")
        self.split = self.column("split_column", options.split_column) if options.split_column else None

    def column(self, key: str, name: str) -> int:
        """The place of the column that `data.read.<key>` names; upper and lower case may differ."""
        name = str(name)  # the command line makes a number of 1
        for wanted, header in ((name, self.header), (name.casefold(), [other.casefold() for other in self.header])):
            if header.count(wanted) == 1:
                return header.index(wanted)
            if wanted in header:
                raise ValueError(f"{self.file}: column names must be there and differ; see {name!r}.")
        columns = ", ".join(self.header[:20])
        raise ValueError(
            f"{self.file} has no column {name!r}; its columns are {columns}.\nGive data.read.{key}=<name>."
        )

    def rows(self, labels: Sequence[int], label: Callable[[Sequence[str], str], str]) -> Rows:
        """All rows; `label` is given a row and its place in words, and `labels` are the columns it reads."""
        lines, paths, texts = list[int](), list[str](), list[str]()
        splits = self._split_columns(labels)
        for line, row in self._lines:
            place = f"{self.file}, line {line}"
            lines.append(line)
            paths.append(self._resolve(row[self.path], place))
            texts.append(label(row, place))
            splits.add(row)
        if not lines:
            raise ValueError(f"{self.file} has a header and no rows.")
        if self.options.anywhere:
            paths = found_below(self.root, paths)
        self._check_there(lines, paths)
        return Rows(lines, paths, splits.decide(self.file, len(lines)), texts)

    def _split_columns(self, labels: Sequence[int]) -> SplitColumns:
        values = {str(key).casefold(): split for key, split in (self.options.split_values or {}).items()}
        if wrong := [split for split in values.values() if split not in SPLITS]:
            raise ValueError(f"data.read.split_values: {wrong[0]!r} is none of {', '.join(SPLITS)}")
        others = [k for k in range(len(self.header)) if k != self.path and k not in labels]
        return SplitColumns(self.header, others, self.split, self.options.split_column is False, values)

    def _resolve(self, path: str, place: str) -> str:
        path = path.strip()
        plain = os.path.normpath(path if path.endswith(self.options.ending) else path + self.options.ending)
        if not path:
            raise ValueError(f"{place}: column {self.header[self.path]!r} is empty: it has to name an image.")
        if not os.path.isabs(path) and leads_out(path):
            raise ValueError(
                f"{place}: {path!r} leads out of {self.root}. Give an absolute path, or a wider data.root."
            )
        return os.path.join(self.root, plain)

    def _check_there(self, lines: Sequence[int], paths: Sequence[str]) -> None:
        missing = missing_files(paths)
        if not missing:
            return
        line_of = dict(zip(paths, lines, strict=True))
        first = "".join(f"\n  line {line_of[path]}: {path}" for path in missing[:3])
        remedy = _ending_remedy(missing[0])
        if not remedy and not self.options.anywhere:
            remedy = (
                "\nIf they are in other folders below data.root: data.read.anywhere=true finds them by their names."
            )
        raise ValueError(f"{self.file}: {len(missing)} of {len(paths)} images are not there, first:{first}{remedy}")


def by_split(root: Path, rows: Rows, labels: Tensor) -> dict[str, Index]:
    """The splits that have rows, each in the file's order; `labels` (N,) or (N, K) are all rows'."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(rows.splits):
        places.setdefault(name, []).append(i)
    prefix = os.path.join(root, "")
    return {name: Index(StringArray.of([rows.paths[i] for i in at], prefix), labels[at]) for name, at in places.items()}


def _ending_remedy(missing: str) -> str:
    """What to type where the file is there under this name with an ending."""
    folder, name = os.path.split(missing)
    entries = os.listdir(folder) if name and os.path.isdir(folder) else []
    there = sorted(entry for entry in entries if os.path.splitext(entry)[0] == name)
    return f"\n{there[0]} is there: data.read.ending={os.path.splitext(there[0])[1]}" if there else ""


def _read_lines(file: Path, path_column: str) -> Iterator[tuple[int, list[str]]]:
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
