"""Reads the curves of a run from metrics.csv."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fovea.runs.figure_names import split_name

Value = float | None


class Chart(NamedTuple):
    """Curves over optimizer steps.

    Attributes:
        title: of the chart.
        steps: the steps at which any curve has a value.
        curves: by name; a value for each step, None where there is none.
    """

    title: str
    steps: list[int]
    curves: dict[str, list[Value]]


def charts(file: Path) -> list[Chart]:
    """Return a chart for each figure of train and val ("loss", "accuracy"), one of learning rates, one of throughput.

    Curves are named by split, with the average of averaged weights: "train", "val", "val ema"; `train/loss_step` is
    "train, one batch". An empty list if there is no file.
    """
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(line for line in lines if line.endswith("\n")))  # a killed run may cut off the last
    groups: dict[str, dict[str, str]] = {}
    for column in rows[0] if rows else ():
        placed = _place(column)
        if placed:
            groups.setdefault(placed[0], {})[placed[1]] = column
    return [_chart(title, columns, rows) for title, columns in groups.items()]


def _place(column: str) -> tuple[str, str] | None:
    """Return the chart and the curve of a column; None if it belongs to no chart."""
    if column.startswith("lr-"):
        return "learning rate", column.removeprefix("lr-")
    split, _, name = column.partition("/")
    if column == "train/loss_step":
        return "loss", "train, one batch"
    if column == "train/images_per_second":
        return "images per second", "train"
    if split not in ("train", "val"):
        return None
    average, metric = split_name(name)
    return metric, f"{split} {average}".rstrip()


def _chart(title: str, columns: dict[str, str], rows: Sequence[dict[str, str]]) -> Chart:
    steps, curves = list[int](), {name: list[Value]() for name in columns}
    for row in rows:
        values = {name: _number(row[column]) for name, column in columns.items()}
        if any(value is not None for value in values.values()):
            steps.append(int(row["step"]))
            for name, value in values.items():
                curves[name].append(value)
    return Chart(title, steps, {name: found for name, found in curves.items() if set(found) != {None}})


def _number(text: str | None) -> Value:
    """Return None for an empty cell, and for nan and infinity, which JSON does not have."""
    value = float(text) if text else float("nan")
    return value if abs(value) < float("inf") else None
