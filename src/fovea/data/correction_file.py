"""Reads a table of corrections: which image, and which label a person says it has."""

import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from fovea.data.csv_rows import read_rows
from fovea.data.index import Task

log = logging.getLogger(__name__)

PATH, CORRECTION, LABEL = "path", "correction", "label"
DROP, NONE = "drop", "none"  # instead of a class name: leave the image out; no class is present (several labels)
SEPARATOR = ";"  # between the names of classes (several labels)
SHOWN = 10  # class names in a message


class Correction(NamedTuple):
    """A row of the table.

    Attributes:
        line: in the file, from 1.
        path: the image, as written.
        text: the correction, as written; empty if there is none.
        classes: the numbers of the classes that the image has; None to leave it out. Empty without a correction.
        label: the names in the column `label`; None if it is empty or there is no such column.
    """

    line: int
    path: str
    text: str
    classes: frozenset[int] | None
    label: frozenset[str] | None


def read_corrections(file: Path, task: Task, class_names: Sequence[str]) -> list[Correction]:
    """Read a table with the columns `path` and `correction`; of the others only `label` is read.

    A correction is a class name or `drop`; for several labels it is the names of all classes that the image has, joined
    by `;`, or `none`. Where a class has the name `drop` or `none`, the word is the class; `<drop>` and `<none>` are
    always the words.

    Raises:
        ValueError: the file is missing or has no such columns, or a correction is empty of a path or names no class.
    """
    if not file.is_file():
        raise ValueError(f"data.corrections={file}: there is no such file")
    lines = read_rows(file, PATH, errors="surrogateescape")
    columns = _columns(file, [name.strip().casefold() for name in next(lines)[1]])
    numbers = {name.strip(): k for k, name in enumerate(class_names)}
    rows = []
    for line, row in lines:
        path, text = row[columns[PATH]].strip(), row[columns[CORRECTION]].strip()
        if text and not path:
            raise ValueError(f"{file}, line {line}: the correction {text!r} has no path: write the image's path")
        classes = _classes(f"{file}, line {line}", text, task, numbers) if text else frozenset[int]()
        rows.append(Correction(line, path, text, classes, _label(row, columns.get(LABEL), task, numbers)))
    if DROP in numbers and any(row.text == DROP for row in rows):
        log.warning("%s: %r is read as the class of this name; <%s> leaves an image out", file, DROP, DROP)
    return rows


def _columns(file: Path, header: list[str]) -> dict[str, int]:
    """Return the positions of the columns that are read."""
    for name in (PATH, CORRECTION):
        if header.count(name) != 1:
            problem = "several columns" if name in header else "no column"
            raise ValueError(
                f"{file} has {problem} {name!r}; its columns are {', '.join(header[:SHOWN])}\n"
                f"It needs the columns {PATH} and {CORRECTION}; new labels are written into {CORRECTION}"
            )
    return {name: header.index(name) for name in (PATH, CORRECTION, LABEL) if name in header}


def _classes(where: str, text: str, task: Task, numbers: Mapping[str, int]) -> frozenset[int] | None:
    """Return the numbers of the classes that a correction names; None for `drop`."""
    if _is_word(text, DROP, numbers):
        return None
    names = _names(text, task, numbers)
    for name in names:
        if name not in numbers:
            raise ValueError(f"{where}: the correction {text!r} names no class{_remedy(name, task, numbers)}")
    return frozenset(numbers[name] for name in names)


def _is_word(text: str, word: str, numbers: Mapping[str, int]) -> bool:
    return text == f"<{word}>" or (text == word and word not in numbers)


def _names(text: str, task: Task, numbers: Mapping[str, int]) -> list[str]:
    """Return the class names in a text; [] for `none`, and the text itself if it has no name."""
    if task == "multiclass" or text in numbers:
        return [text]
    if _is_word(text, NONE, numbers):
        return []
    return [part.strip() for part in text.split(SEPARATOR) if part.strip()] or [text]


def _remedy(name: str, task: Task, numbers: Mapping[str, int]) -> str:
    spelled = {known.casefold(): known for known in numbers}
    near = get_close_matches(name.casefold(), spelled, n=1)
    meant = f"; is {name!r} {spelled[near[0]]!r}?" if near else ""
    more = ", ..." if len(numbers) > SHOWN else ""
    words = f"{DROP} to leave the image out" + (f", {NONE} for no class" if task == "multilabel" else "")
    several = f", several joined by {SEPARATOR}" if task == "multilabel" else ""
    return f"{meant}\nWrite a class ({', '.join(list(numbers)[:SHOWN])}{more}){several}; {words}; or nothing"


def _label(row: Sequence[str], column: int | None, task: Task, numbers: Mapping[str, int]) -> frozenset[str] | None:
    text = row[column].strip() if column is not None else ""
    return frozenset(_names(text, task, numbers)) if text else None
