"""Writes leaderboard.csv: a row for each run, with the mean and deviation of its group."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fovea.files import atomic_write
from fovea.leaderboard.entries import Entry
from fovea.leaderboard.groups import Figure, Group
from fovea.leaderboard.text_table import test_names


def write(file: Path, groups: Sequence[Group]) -> None:
    """Write the file atomically.

    Columns: `group` (1 is the best), `run`, `overrides`, `status`, `monitor`, `best`, `test/<metric>` ..., `seconds`,
    `report`, `error`, and for the group `n`, `best mean`, `best deviation`, `test/<metric> mean` and so on. Undefined
    values are empty. Paths are relative to the file's folder where they lie below it.
    """
    rows = [
        _of_run(entry, names, file.parent.resolve()) | {"group": n} | _of_group(group, names)
        for names in [test_names(groups)]
        for n, group in enumerate(groups, 1)
        for entry in group.entries
    ]
    columns = list(dict.fromkeys(["group", *(key for row in rows for key in row)]))
    with (
        atomic_write(file) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out,  # for any bytes in paths
    ):
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows(rows)


def _of_run(entry: Entry, names: Sequence[str], folder: Path) -> dict[str, Any]:
    report = entry.report
    below = report is not None and report.is_relative_to(folder)
    return {
        "run": entry.name,
        "overrides": " ".join(entry.overrides.values()),
        "status": entry.status,
        "monitor": entry.monitor,
        "best": entry.best,
        **{f"test/{name}": entry.test.get(name) for name in names},
        "seconds": entry.seconds,
        "report": report.relative_to(folder) if report and below else report,
        "error": entry.error,
    }


def _of_group(group: Group, names: Sequence[str]) -> dict[str, Any]:
    figures = {"best": group.best, **{f"test/{name}": group.test(name) for name in names}}
    return {"n": len(group.counted)} | {key: value for name, f in figures.items() for key, value in _spread(name, f)}


def _spread(name: str, figure: Figure | None) -> list[tuple[str, float | None]]:
    return [(f"{name} mean", figure and figure.mean), (f"{name} deviation", figure and figure.deviation)]
