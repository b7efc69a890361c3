"""Lays the curves of several runs over each other."""

from collections.abc import Iterator, Sequence
from typing import Any

from fovea.leaderboard.entries import Entry
from fovea.leaderboard.groups import REPEATED, Group
from fovea.report.run import history

MOST_RUNS = 20  # in a chart: those of the best groups
SPLITS = ("train", "val", "val ema")  # of a figure; its curves are in separate charts


def overlaid(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return charts for page.js: one for each figure and split, the monitor first, with a curve for each run.

    The runs of a group have the same colour. A figure that only one batch has (`train/loss_step`) is left out.
    """
    charts: dict[str, dict[str, tuple[int, dict[int, float | None]]]] = {}
    for number, label, entry in _first_runs(groups):
        for title, steps, values in _curves(entry):
            charts.setdefault(title, {})[label] = (number, dict(zip(steps, values, strict=True)))
    monitored = {entry.monitor.replace("/", " ") for group in groups for entry in group.entries}
    order = sorted(charts, key=lambda title: (title not in monitored, not title.startswith("val"), title))
    return [_chart(title, charts[title]) for title in order]


def _first_runs(groups: Sequence[Group]) -> Iterator[tuple[int, str, Entry]]:
    """Yield (number of the group from 0 on, label of the curve, run). The label is the rank, or `2 seed=1`."""
    runs = [(n, group, entry) for n, group in enumerate(groups) for entry in group.entries]
    for n, group, entry in runs[:MOST_RUNS]:
        repeated = [entry.overrides[key] for key in REPEATED if key in entry.overrides] or [entry.name]
        yield n, " ".join([f"{n + 1}", *(repeated if len(group.entries) > 1 else [])]), entry


def _curves(entry: Entry) -> Iterator[tuple[str, list[int], list[float | None]]]:
    for chart in history.charts(entry.folder / "metrics.csv"):
        for name, values in chart.curves.items():
            if name in SPLITS and chart.title != "images per second":
                yield f"{name} {chart.title}", chart.steps, values


def _chart(title: str, curves: dict[str, tuple[int, dict[int, float | None]]]) -> dict[str, Any]:
    steps = sorted({step for _, values in curves.values() for step in values})
    return {
        "title": title,
        "x": "step",
        "steps": steps,
        "curves": {label: [values.get(step) for step in steps] for label, (_, values) in curves.items()},
        "colors": [number for number, _ in curves.values()],
        "marks": [],
    }
