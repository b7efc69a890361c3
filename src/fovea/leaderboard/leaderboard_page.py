"""Makes leaderboard.html from groups of runs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fovea.leaderboard.curves import MOST_RUNS, overlaid
from fovea.leaderboard.entries import Entry
from fovea.leaderboard.groups import Figure, Group, different_keys, shared_overrides, value_text
from fovea.leaderboard.text_table import best_cell, monitor_title, test_cell, test_names
from fovea.report import page
from fovea.report.run.texts import duration

Pair = tuple[Mapping[str, Any], Mapping[str, Any]]  # the section about two runs, and its images


def write(file: Path, title: str, sentences: Sequence[str], groups: Sequence[Group], pair: Pair | None = None) -> None:
    """Write the page atomically.

    Args:
        file: the page.
        title: its heading.
        sentences: what stands above the table.
        groups: the best first.
        pair: what report/run/pair_section.py returns for two runs.
    """
    entries = [entry for group in groups for entry in group.entries]
    several = any(len(group.entries) > 1 for group in groups)
    names, shared, (charts, damaged) = test_names(groups), shared_overrides(entries), overlaid(groups)
    drawn = {number for chart in charts for number in chart["colors"]}
    runs = [
        _run(entry, n, set(shared), names, file.parent) for n, group in enumerate(groups, 1) for entry in group.entries
    ]
    section, shown = pair or (None, {"images": {}, "thumbnails": {}})
    text = page.render(
        "leaderboard.html",
        title=title,
        sentences=[*sentences, *damaged],
        monitor=monitor_title(groups),
        names=names,
        several=several,
        groups=[_group(group, n, names, file.parent) for n, group in enumerate(groups, 1)],
        shared=" ".join(shared),
        runs=runs if several else [],
        errors=[run for run in runs if run["error"]],
        section=section,
        charts=charts,
        legend=[(n, group.label) for n, group in enumerate(groups) if n in drawn],
        left_out=f"The first {MOST_RUNS} of {len(entries)} runs." if len(entries) > MOST_RUNS else "",
        differences=_differences(groups),
        data={"charts": charts, **shown},
    )
    page.save(file, text)


def _group(group: Group, rank: int, names: Sequence[str], folder: Path) -> dict[str, Any]:
    return {
        "rank": rank,
        "label": group.label,
        "status": group.status,
        "n": len(group.counted),
        "report": _link(group.entries[0], folder) if len(group.entries) == 1 else "",
        **_figures(group, names),
    }


def _run(entry: Entry, rank: int, shared: set[str], names: Sequence[str], folder: Path) -> dict[str, Any]:
    return {
        "rank": rank,
        "name": entry.name,
        "label": " ".join(word for word in entry.overrides.values() if word not in shared),
        "status": entry.status,
        "error": entry.error,
        "report": _link(entry, folder),
        **_figures(Group("", [entry]), names),
    }


def _figures(group: Group, names: Sequence[str]) -> dict[str, Any]:
    seconds = group.seconds
    return {
        "best": _cell(best_cell(group), group.best),
        "test": [_cell(test_cell(group, name), group.test(name)) for name in names],
        "time": {"text": duration(seconds.mean) if seconds else "", "exact": seconds.mean if seconds else ""},
    }


def _cell(text: str, figure: Figure | None) -> dict[str, Any]:
    return {"text": text, "exact": "" if figure is None else figure.mean}


def _link(entry: Entry, folder: Path) -> str:
    """Return the address of the run's report, relative to the page, so that both can be moved together."""
    return quote(os.fsencode(Path(os.path.relpath(entry.report, folder.resolve())).as_posix())) if entry.report else ""


def _differences(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the keys in which the configs differ, with each value and the ranks of the groups that have it."""
    begun = [(n, group.first) for n, group in enumerate(groups, 1) if group.first.config]
    rows = []
    for key in different_keys([entry for _, entry in begun]):
        ranks: dict[str, list[str]] = {}
        for n, entry in begun:
            ranks.setdefault(value_text(entry.config, key), []).append(str(n))
        rows.append({"key": key, "values": [{"text": t, "ranks": ", ".join(found)} for t, found in ranks.items()]})
    return rows
