"""Writes leaderboard.csv and leaderboard.html of runs, and returns the same table as text."""

from collections.abc import Sequence
from pathlib import Path

from fovea.leaderboard import leaderboard_file, leaderboard_page
from fovea.leaderboard.entries import Entry
from fovea.leaderboard.groups import grouped
from fovea.leaderboard.leaderboard_page import Pair
from fovea.leaderboard.text_table import table

PAGE, CSV = "leaderboard.html", "leaderboard.csv"


def text(entries: Sequence[Entry], width: int | None) -> str:
    """Return the table and, below it, what makes its figures hard to compare.

    Args:
        entries: the runs, at least one.
        width: of the terminal; None: no limit.
    """
    return "\n".join([table(grouped(entries), width), *cautions(entries)])


def write(folder: Path, title: str, sentences: Sequence[str], entries: Sequence[Entry], pair: Pair | None) -> Path:
    """Write both files into the folder, which must exist, and return the page.

    Args:
        folder: where they are written.
        title: the page's heading.
        sentences: what stands above its table.
        entries: the runs, at least one.
        pair: the comparison of two runs.

    Raises:
        OSError: a file can't be written.
    """
    groups = grouped(entries)
    leaderboard_file.write(folder / CSV, groups)
    leaderboard_page.write(folder / PAGE, title, [*sentences, *cautions(entries)], groups, pair)
    return folder / PAGE


def cautions(entries: Sequence[Entry]) -> list[str]:
    """Return sentences about runs whose figures can't be compared."""
    data = {entry.data for entry in entries if entry.data and entry.config.get("data.fold") is None}
    monitors = sorted({entry.monitor for entry in entries if entry.best is not None})
    modes = {entry.mode for entry in entries if entry.best is not None}
    splits = sorted({entry.split for entry in entries if entry.split})
    found = []
    if len(data) > 1:
        found.append(f"The runs read {len(data)} different sets of images or labels: don't compare their figures.")
    if len(monitors) > 1:
        found.append(f"The runs have different monitors ({', '.join(monitors)}), so they are not sorted.")
    elif len(modes) > 1:
        found.append(f"Some runs maximize {monitors[0]} and others minimize it, so they are not sorted.")
    if len(splits) > 1:
        found.append(f"The test figures are of different splits ({', '.join(splits)}): don't compare them.")
    elif splits and splits != ["test"]:
        found.append(f"The test figures are of the split {splits[0]}.")
    return found
