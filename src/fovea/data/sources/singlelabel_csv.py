"""Reads single-label images from a CSV file: an image column, a label column and possibly a split column."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from fovea.data.class_names import is_number
from fovea.data.index import Index, Splits
from fovea.data.sources import label_text
from fovea.data.sources.table import Options, Table, by_split

MIN_ROWS = 20  # with fewer rows, labels that all differ are not suspicious


def read_csv(
    root: Path,
    csv: str = "labels.csv",
    path_column: str = "path",
    ending: str = "",
    anywhere: bool = False,
    split_column: str | bool | None = None,
    split_values: Mapping[str, str] | None = None,
    label_column: str = "label",
    group_column: str | None = None,
) -> Splits:
    """Read a UTF-8 file with a header, delimited by comma, semicolon or tab.

    The classes are the labels of all rows, without surrounding spaces, sorted: whole numbers by value, others as text.

    Args:
        root: folder that relative paths start from and must stay in.
        csv: the file, relative to `root` or absolute.
        path_column, ending, anywhere, split_column, split_values, group_column: see `Options`.
        label_column: the class of each image.

    Raises:
        ValueError: the file is invalid; the message names the file and the line, the column or the count.
    """
    table = Table(root, csv, Options(path_column, ending, anywhere, split_column, split_values, group_column))
    column = _label_column(table, label_column)
    rows = table.rows([column], lambda row, _: sys.intern(label_text.without_zero_fraction(row[column].strip())))
    name = table.header[column]
    label_text.check_no_missing_labels(table.file, name, rows.lines, rows.labels, empty_too=True)
    counts = Counter(rows.labels)
    where = f"{table.file}, column {name!r}"
    _check_classes(where, counts)
    label_text.log_classes(table.file, counts, len(rows.labels))
    names = label_text.sort_class_names(counts)
    index_of = {name: k for k, name in enumerate(names)}
    indices = by_split(root, rows, torch.tensor([index_of[label] for label in rows.labels]))
    if "train" in indices:
        _check_all_in_train(where, indices["train"], names)
    return Splits("multiclass", names, indices.get("train"), indices.get("val"), indices.get("test"))


def _label_column(table: Table, name: str) -> int:
    """Return the label column's position; if it does not exist, the error also mentions data=multilabel_csv."""
    try:
        return table.column("label_column", name)
    except ValueError as error:
        raise ValueError(f"{error} data=multilabel_csv reads one column per class.") from error


def _check_classes(where: str, counts: Mapping[str, int]) -> None:
    rows = sum(counts.values())
    if rows >= MIN_ROWS and 2 * len(counts) > rows:
        kind = "measured values" if all(map(is_number, counts)) else "texts or ids"
        first = ", ".join(map(repr, list(counts)[:3]))
        raise ValueError(
            f"{where}: {rows:,} rows have {len(counts):,} different labels, such as {first}: these look like {kind}.\n"
            "Set data.read.label_column=<the column with the classes>."
        )
    label_text.check_names(
        where, counts, "data=multilabel_csv 'data.read.separator=\"{separator}\"' reads several labels"
    )


def _check_all_in_train(where: str, train: Index, names: Sequence[str]) -> None:
    counts = torch.bincount(train.targets, minlength=len(names)).tolist()
    if absent := [name for name, count in zip(names, counts, strict=True) if not count]:
        raise ValueError(
            f"{where}: {len(absent)} classes have no row in train: {', '.join(map(repr, absent[:5]))}\n"
            "Add training images of them, correct the spelling, or remove the rows."
        )
