"""Reads multi-label images from a CSV file: one column per class, or one column with a list of class names."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from fovea.data.index import Splits
from fovea.data.scan.split_names import split_of
from fovea.data.sources import label_text
from fovea.data.sources.split_column import is_split_name
from fovea.data.sources.table import Options, Rows, Table, by_split

log = logging.getLogger(__name__)

MARK_OF = {"1": "1", "1.0": "1", "true": "1", "0": "0", "0.0": "0", "false": "0", "-1": "?", "-1.0": "?", "": "?"}
ROW_NUMBERS = re.compile(r"(unnamed: ?\d+)?|id|index|idx", re.IGNORECASE)  # column names in pandas and databases


def read_multilabel_csv(
    root: Path,
    csv: str = "labels.csv",
    path_column: str = "path",
    ending: str = "",
    anywhere: bool = False,
    split_column: str | bool | None = None,
    split_values: Mapping[str, str] | None = None,
    label_column: str | None = None,
    separator: str | None = None,
    class_columns: Sequence[str] | None = None,
    group_column: str | None = None,
) -> Splits:
    """Read a UTF-8 file with a header, delimited by comma, semicolon or tab.

    Args:
        root: folder that relative paths start from and must stay in.
        csv: the file, relative to `root` or absolute.
        path_column, ending, anywhere, split_column, split_values, group_column: see `Options`.
        label_column: the column that lists the classes present in an image; the classes are all names in it, sorted.
            None: there is one column per class.
        separator: between the names in `label_column`; "list" for lists such as ['cat', 'dog'], "none" for one name.
        class_columns: the class columns in the order of the classes, with values 1, 0, or -1 or empty for unknown;
            None for all columns except the image, the split and row numbers.

    Raises:
        ValueError: the file is invalid; the message names the file and the line, the column or the count.
    """
    table = Table(root, csv, Options(path_column, ending, anywhere, split_column, split_values, group_column))
    if label_column is None:
        names, rows, labels = _read_marks(table, class_columns)
    else:
        names, rows, labels = _read_lists(table, table.column("label_column", label_column), separator)
    indices = by_split(root, rows, labels)
    return Splits("multilabel", names, indices.get("train"), indices.get("val"), indices.get("test"))


def _read_marks(table: Table, class_columns: Sequence[str] | None) -> tuple[tuple[str, ...], Rows, Tensor]:
    columns = _class_columns(table, class_columns)
    rows = table.rows(columns, lambda row, place: _mark(table.header, row, columns, place))
    marks = torch.frombuffer(bytearray("".join(rows.labels), "ascii"), dtype=torch.uint8).view(len(rows.lines), -1)
    labels = (marks == ord("1")).to(torch.int8) - (marks == ord("?")).to(torch.int8)  # (N, K)
    if not (labels == 0).any() and (labels == -1).any():
        raise ValueError(
            f"{table.file}: no label is 0 (absent), and {int((labels == -1).sum()):,} labels are -1 or empty (unknown)."
            "\nWrite 0 if a class is absent."
        )
    names = tuple(table.header[k] for k in columns)
    counts = dict(zip(names, (labels == 1).sum(dim=0).tolist(), strict=True))
    label_text.log_classes(table.file, counts, len(labels), int((labels == 0).all(dim=1).sum()))
    return names, rows, labels


def _class_columns(table: Table, names: Sequence[str] | None) -> list[int]:
    if names is not None:
        columns = [table.column("class_columns", name) for name in names]
    else:
        rest = [k for k in range(len(table.header)) if k not in (table.path, table.split, table.group)]
        numbers = [k for k in rest if ROW_NUMBERS.fullmatch(table.header[k])]
        columns = [k for k in rest if k not in numbers and not is_split_name(table.header[k])]
        if numbers:
            ignored = [table.header[k] for k in numbers]
            log.warning(
                "%s: columns %s look like row numbers and are ignored; data.read.class_columns chooses the classes",
                table.file,
                ignored,
            )
    if not columns:
        raise ValueError(f"{table.file} has no class columns; its columns are {', '.join(table.header)}.")
    header = [table.header[k] for k in columns]
    if repeated := [repr(name) for name, uses in Counter(header).items() if uses > 1]:
        raise ValueError(f"{table.file}: column names must not be repeated or empty: {', '.join(repeated[:3])}.")
    return columns


def _mark(header: Sequence[str], row: Sequence[str], columns: Sequence[int], place: str) -> str:
    try:
        return "".join([MARK_OF[row[k]] for k in columns])
    except KeyError:
        return "".join(
            [MARK_OF.get(row[k].strip().casefold(), "") or _raise_invalid(header, row, columns, place) for k in columns]
        )


def _raise_invalid(header: Sequence[str], row: Sequence[str], columns: Sequence[int], place: str) -> NoReturn:
    """Raise ValueError with all columns of the row whose value is not a label."""
    invalid = [k for k in columns if row[k].strip().casefold() not in MARK_OF]
    others = ", ".join(f"{header[k]!r} ({row[k]!r})" for k in invalid[1:6])
    remedy = (
        "data.read.class_columns=[<names>] chooses the class columns, data.read.label_column=<name> a list of names"
    )
    if splits := [header[k] for k in invalid if split_of(row[k], whole=True)]:
        remedy = f"If this column is the split: 'data.read.split_column={splits[0]}'"
    raise ValueError(
        f"{place}, column {header[invalid[0]]!r}: {row[invalid[0]]!r} is not a label"
        + (f"; the same for {others}" if others else "")
        + f".\nWrite 1 for present, 0 for absent, -1 or nothing for unknown.\n{remedy}."
    )


def _read_lists(table: Table, column: int, separator: str | None) -> tuple[tuple[str, ...], Rows, Tensor]:
    rows = table.rows([column], lambda row, _: row[column])
    name = table.header[column]
    _check_separator(table.file, name, rows.labels, separator)
    label_text.check_no_missing_labels(table.file, name, rows.lines, rows.labels, empty_too=False)
    lists = _separated(table.file, rows, separator or "")
    counts = Counter(name for names in lists for name in set(names))
    if not counts:
        raise ValueError(f"{table.file}: column {name!r} is empty in every row: write class names into it.")
    remedy = "'data.read.separator=\"{separator}\"' separates them"
    label_text.check_names(f"{table.file}, column {name!r}", counts, remedy)
    label_text.log_classes(table.file, counts, len(lists), sum(not names for names in lists))
    names = label_text.sort_class_names(counts)
    return names, rows, _targets(lists, names)


def _check_separator(file: Path, column: str, texts: Sequence[str], separator: str | None) -> None:
    if not separator:
        first = ", ".join(map(repr, list(dict.fromkeys(filter(None, texts)))[:4]))
        guess = label_text.guess_separator(set(texts))
        raise ValueError(
            f"{file}: data.read.separator is missing: what separates the names in column {column!r}? "
            f"Its first values are {first}.\nProbably 'data.read.separator=\"{guess}\"'; it may be any text, "
            "list for ['cat', 'dog'], or none for one name per row."
        )


def _separated(file: Path, rows: Rows, separator: str) -> list[list[str]]:
    split = label_text.splitter(separator)
    lists = []
    for line, text in zip(rows.lines, rows.labels, strict=True):
        try:
            lists.append(split(text))
        except ValueError as error:
            raise ValueError(f"{file}, line {line}: {error} (data.read.separator=list).") from error
    return lists


def _targets(lists: Sequence[Sequence[str]], names: Sequence[str]) -> Tensor:
    """Return (N, K) int8: 1 if the row lists the name, else 0."""
    index_of = {name: k for k, name in enumerate(names)}
    pairs = [(i, index_of[name]) for i, row in enumerate(lists) for name in row]
    labels = torch.zeros(len(lists), len(names), dtype=torch.int8)
    labels[tuple(torch.tensor(pairs).T)] = 1
    return labels
