"""What a check of a dataset finds, and the table that it is written to."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from fovea.files import atomic_write

Kind = Literal[
    "unreadable",
    "damaged",
    "exact duplicate",
    "near duplicate",
    "plain image",
    "odd size",
    "odd aspect ratio",
    "small",
    "class without images",
    "class with few images",
    "one class",
    "class balance",
]


class Finding(NamedTuple):
    """A row of the table. `other_split` and `other_path` are set for pairs; `path` is empty for findings of a split."""

    kind: Kind
    split: str
    path: str = ""
    other_split: str = ""
    other_path: str = ""
    detail: str = ""


def write_findings(file: Path, findings: Iterable[Finding]) -> None:
    """Write the table as CSV, atomically; file names that are not UTF-8 keep their bytes."""
    with (
        atomic_write(file) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out,
    ):
        writer = csv.writer(out)
        writer.writerow(name.replace("_", " ") for name in Finding._fields)
        writer.writerows(findings)
