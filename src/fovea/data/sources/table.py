"""Reads a CSV file with a header that lists images: the path, split and label of each row."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fovea.data.csv_rows import read_rows
from fovea.data.index import Index
from fovea.data.sources.image_paths import leaves_folder, locate_below, missing_files
from fovea.data.sources.split_column import SplitColumns
from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Options:
    """The keys of `data.read` that all tables have; see conf/data/csv.yaml.

    Attributes:
        path_column: the image's path, relative to the root or absolute.
        ending: is added to image names that do not end with it.
        anywhere: whether to search all folders below the root for images that do not exist at their path.
        split_column: the column with the split; None searches for a usual name, False makes all rows train.
        split_values: maps that column's values to splits, if they are not usual words.
        group_column: the column with the images' groups (`Index.groups`), the key data.group_column; None: no groups.
    """

    path_column: str = "path"
    ending: str = ""
    anywhere: bool = False
    split_column: str | bool | None = None
    split_values: Mapping[str, str] | None = None
    group_column: str | None = None


@dataclass(frozen=True)
class Rows:
    """The rows as columns: line in the file (from 1), image path, train/val/test, label, and group (None: no groups).

    A label is a short string in the reader's own format, so that a million rows of 80 classes fit into memory.
    """

    lines: list[int]
    paths: list[str]
    splits: list[str]
    labels: list[str]
    groups: list[str] | None


class Table:
    """A table in UTF-8, delimited by comma, semicolon or tab; `rows` can be called once."""

    def __init__(self, root: Path, csv: str, options: Options) -> None:
        """Read the header; raise ValueError if the file or a column named in `options` does not exist."""
        self.root, self.file, self.options = root, root / csv, options
        if not self.file.is_file():
            raise ValueError(f"{self.file} does not exist. Set data.root=<folder> and data.read.csv=<file in it>.")
        self._lines = read_rows(self.file, options.path_column)
        self.header = [name.strip() for name in next(self._lines)[1]]
        self.path = self.column("path_column", options.path_column)
        if options.split_column is True:
            raise ValueError("data.read.split_column=true: set the column's name, or false to use no column")
        self.split = self.column("split_column", options.split_column) if options.split_column else None
        self.group = self.column("group_column", options.group_column, "data") if options.group_column else None

    def column(self, key: str, name: str, section: str = "data.read") -> int:
        """Return the position of the column that `<section>.<key>` names; upper and lower case may differ."""
        name = str(name)  # the command line parses a column named 1 as a number
        for wanted, header in ((name, self.header), (name.casefold(), [other.casefold() for other in self.header])):
            if header.count(wanted) == 1:
                return header.index(wanted)
            if wanted in header:
                raise ValueError(f"{self.file}: column names must not be repeated or empty: {name!r}.")
        columns = ", ".join(self.header[:20])
        raise ValueError(f"{self.file} has no column {name!r}; its columns are {columns}.\nSet {section}.{key}=<name>.")

    def rows(self, labels: Sequence[int], read_label: Callable[[Sequence[str], str], str]) -> Rows:
        """Read all rows; `read_label` gets a row and its location for messages, and reads the columns `labels`."""
        lines, paths, texts, groups = list[int](), list[str](), list[str](), list[str]()
        splits = self._split_columns(labels)
        for line, row in self._lines:
            location = f"{self.file}, line {line}"
            lines.append(line)
            paths.append(self._resolve(row[self.path], location))
            texts.append(read_label(row, location))
            splits.add(row)
            if self.group is not None:
                groups.append(self._group(row[self.group], location))
        if not lines:
            raise ValueError(f"{self.file} has a header but no rows.")
        if self.options.anywhere:
            paths = locate_below(self.root, paths)
        self._check_exist(lines, paths)
        grouped = groups if self.group is not None else None
        return Rows(lines, paths, splits.decide(self.file, len(lines)), texts, grouped)

    def _group(self, value: str, location: str) -> str:
        if not value.strip():
            raise ValueError(
                f"{location}: column {self.options.group_column!r} (data.group_column) is empty: write the image's "
                "group into it; an image that belongs with no other gets a group of its own"
            )
        return sys.intern(value.strip())

    def _split_columns(self, labels: Sequence[int]) -> SplitColumns:
        values = {str(key).casefold(): split for key, split in (self.options.split_values or {}).items()}
        if wrong := [split for split in values.values() if split not in SPLITS]:
            raise ValueError(f"data.read.split_values: {wrong[0]!r} is not one of {', '.join(SPLITS)}")
        others = [k for k in range(len(self.header)) if k not in (self.path, self.group, *labels)]
        return SplitColumns(self.header, others, self.split, self.options.split_column is False, values)

    def _resolve(self, path: str, location: str) -> str:
        path = path.strip()
        normalized = os.path.normpath(path if path.endswith(self.options.ending) else path + self.options.ending)
        if not path:
            raise ValueError(f"{location}: column {self.header[self.path]!r} is empty: write an image's path into it.")
        if not os.path.isabs(path) and leaves_folder(path):
            raise ValueError(
                f"{location}: {path!r} points outside {self.root}. Use an absolute path, or a wider data.root."
            )
        return os.path.join(self.root, normalized)

    def _check_exist(self, lines: Sequence[int], paths: Sequence[str]) -> None:
        missing = missing_files(paths)
        if not missing:
            return
        line_of = dict(zip(paths, lines, strict=True))
        first = "".join(f"\n  line {line_of[path]}: {path}" for path in missing[:3])
        remedy = _ending_remedy(missing[0])
        if not remedy and not self.options.anywhere:
            remedy = "\nIf they are in other folders below data.root: data.read.anywhere=true finds them by name."
        raise ValueError(f"{self.file}: {len(missing)} of {len(paths)} images are missing, first:{first}{remedy}")


def by_split(root: Path, rows: Rows, labels: Tensor) -> dict[str, Index]:
    """Return an index for each split that has rows, in the file's order; `labels` (N,) or (N, K) cover all rows."""
    positions: dict[str, list[int]] = {}
    for i, split in enumerate(rows.splits):
        positions.setdefault(split, []).append(i)
    prefix = os.path.join(root, "")

    def index_of(own: list[int]) -> Index:
        groups = None if rows.groups is None else StringArray.of([rows.groups[i] for i in own])
        return Index(StringArray.of([rows.paths[i] for i in own], prefix), labels[own], groups=groups)

    return {split: index_of(own) for split, own in positions.items()}


def _ending_remedy(missing: str) -> str:
    """Return which data.read.ending to set if a file with this name and an ending exists, else an empty string."""
    folder, name = os.path.split(missing)
    entries = os.listdir(folder) if name and os.path.isdir(folder) else []
    found = sorted(entry for entry in entries if os.path.splitext(entry)[0] == name)
    return f"\n{found[0]} exists: set data.read.ending={os.path.splitext(found[0])[1]}" if found else ""
