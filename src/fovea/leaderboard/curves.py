"""Lays the curves of several runs over each other."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from fovea.leaderboard.entries import Entry
from fovea.leaderboard.groups import REPEATED, Group
from fovea.report.run import history
from fovea.runs.figure_names import AVERAGES, split_name

MOST_RUNS = 20  # in a chart: those of the best groups
SPLITS = ("train", "val", *(f"val {average}" for average in AVERAGES))  # of a figure; its curves are in separate charts


def overlaid(groups: Sequence[Group]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return charts for page.js, and a sentence about each run whose metrics.csv is damaged.

    There is a chart for each figure and split, the monitor first, with a curve for each run. The runs of a group have
    the same colour. A figure that only one batch has (`train/loss_step`) is left out.
    """
    charts: dict[str, dict[str, tuple[int, dict[int, float | None]]]] = {}
    damaged = []
    for number, label, entry in _first_runs(groups):
        try:
            for title, steps, values in _curves(entry):
                charts.setdefault(title, {})[label] = (number, dict(zip(steps, values, strict=True)))
        except (ValueError, LookupError, TypeError, csv.Error) as error:
            damaged.append(f"{entry.folder / 'metrics.csv'} is damaged ({error}), so the run has no curves.")
    monitored = {_title(entry.monitor) for group in groups for entry in group.entries}
    order = sorted(charts, key=lambda title: (title not in monitored, not title.startswith("val"), title))
    return [_chart(title, charts[title]) for title in order], damaged


def _title(monitor: str) -> str:
    """Return the chart's title: `val accuracy` of `val/accuracy`, `val ema accuracy` of `val/ema_accuracy`."""
    split, _, name = monitor.partition("/")
    return " ".join(word for word in (split, *split_name(name)) if word)


def _first_runs(groups: Sequence[Group]) -> Iterator[tuple[int, str, Entry]]:
    """Yield (number of the group from 0 on, label of the curve, run). Each run has another label."""
    runs = [(n, group, entry) for n, group in enumerate(groups) for entry in group.entries][:MOST_RUNS]
    labels = [_label(n, group, entry) for n, group, entry in runs]
    counts = Counter(labels)
    for (n, _, entry), label in zip(runs, labels, strict=True):
        yield n, label if counts[label] == 1 else f"{label} {entry.name}", entry


def _label(number: int, group: Group, entry: Entry) -> str:
    """Return the rank, or `2 seed=1` if the group has several runs."""
    repeated = [entry.overrides[key] for key in REPEATED if key in entry.overrides]
    return " ".join([f"{number + 1}", *(repeated if len(group.entries) > 1 else [])])


def _curves(entry: Entry) -> list[tuple[str, list[int], list[float | None]]]:
    """Return (title of the chart, steps, values) of each curve."""
    return [
        (f"{name} {chart.title}", chart.steps, values)
        for chart in history.charts(entry.folder / "metrics.csv")
        for name, values in chart.curves.items()
        if name in SPLITS and chart.title != "images per second"
    ]


def _chart(title: str, curves: dict[str, tuple[int, dict[int, float | None]]]) -> dict[str, Any]:
    steps = sorted({step for _, values in curves.values() for step in values})
    return {
        "title": title,
        "x": "step",
        "steps": steps,
        "labels": list(curves),
        "curves": {label: [values.get(step) for step in steps] for label, (_, values) in curves.items()},
        "colors": [number for number, _ in curves.values()],
        "marks": [],
    }
