"""The leaderboard as text for a terminal or a log."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from fovea.leaderboard.entries import Entry
from fovea.leaderboard.groups import Figure, Group, shared_overrides
from fovea.report.run.texts import duration, figure_text, is_small

SHORT_NAME, NARROWEST = 6, 24  # characters: of a name that fits into a column, and of the column of overrides
MOST_NAMES = 4  # in a cell
GAP, BREAKS = "  ", "=,./_"


class Column(NamedTuple):
    """A column of the table: its title, its cells and whether they are aligned to the right."""

    title: str
    cells: list[str]
    right: bool = False

    @property
    def width(self) -> int:
        return max(map(len, [self.title, *self.cells]))


def figure_cell(figure: Figure | None, runs: int = 1) -> str:
    """Return `0.9936`, or `0.9936 ± 0.0032` of several runs; empty if there is none.

    If the figure is not of all `runs` of the group, their number is added: `0.9936 ± 0.0032 (n = 2)`.
    """
    if figure is None:
        return ""
    spread = "" if figure.deviation is None else f" ± {_deviation_text(figure.mean, figure.deviation)}"
    return figure_text(figure.mean) + spread + (f" (n = {figure.n})" if figure.n < runs else "")


def _deviation_text(mean: float, deviation: float) -> str:
    """Return the deviation with as many digits as the mean."""
    return figure_text(deviation) if is_small(mean) else f"{deviation:.4f}"


def best_cell(group: Group) -> str:
    """Return the monitor's best value."""
    return figure_cell(group.best, len(group.counted))


def test_cell(group: Group, name: str) -> str:
    """Return a test figure; `undefined` if runs were tested but none has a value."""
    tested = any(name in entry.test for entry in group.counted)
    return figure_cell(group.test(name), len(group.counted)) or ("undefined" if tested else "")


def test_names(groups: Sequence[Group]) -> list[str]:
    """Return the names of the test figures: the monitored one first, then by name."""
    names = {name for group in groups for entry in group.entries for name in entry.test}
    monitored = {entry.monitor.partition("/")[2] for group in groups for entry in group.entries}
    return sorted(names, key=lambda name: (name not in monitored, name))


def monitor_title(groups: Sequence[Group]) -> str:
    """Return the monitor's name, or `monitor` if the runs have different ones."""
    names = {entry.monitor for group in groups for entry in group.entries if entry.monitor}
    return names.pop() if len(names) == 1 else "monitor"


def table(groups: Sequence[Group], width: int | None) -> str:
    """Return the groups as a table, with the names and errors that don't fit into it below.

    Args:
        groups: the best first.
        width: of the terminal: test figures that don't fit are left out, and cells have several lines; None: no limit.
    """
    entries = [entry for group in groups for entry in group.entries]
    named = all(len(entry.name) <= SHORT_NAME for entry in entries)
    left, right = _columns(groups, named)
    figures = [Column(f"test/{name}", [test_cell(g, name) for g in groups], True) for name in test_names(groups)]
    used = sum(column.width + len(GAP) for column in [left[0], *right]) + min(NARROWEST, left[1].width)
    shown = figures[:1]
    for column in figures[1:]:
        if width is None or used + sum(c.width + len(GAP) for c in [*shown, column]) <= width:
            shown.append(column)
    columns = [*left, *right[:-1], *shown, right[-1]]
    lines = _lines(columns, width)
    shared = shared_overrides(entries)
    lines += [f"all with {' '.join(shared)}"] if shared else []
    lines += [] if named else [f"{n}  {e.folder}" for n, group in enumerate(groups, 1) for e in group.entries]
    lines += [f"{'job ' * named}{e.name} {e.status}: {e.error}" for e in entries if e.error]
    return "\n".join(lines)


def _columns(groups: Sequence[Group], named: bool) -> tuple[list[Column], list[Column]]:
    """Return the columns up to the overrides, and those after them; the last is the time."""
    names = [_names(group.entries) if named else str(n) for n, group in enumerate(groups, 1)]
    left = [Column("job" if named else "run", names), Column("overrides", [group.label for group in groups])]
    several = any(len(group.entries) > 1 for group in groups)
    return left, [
        Column("status", [group.status for group in groups]),
        *([Column("n", [str(len(group.counted)) for group in groups], True)] if several else []),
        Column(monitor_title(groups), [best_cell(group) for group in groups], True),
        Column("time", [duration(group.seconds.mean) if group.seconds else "" for group in groups], True),
    ]


def _names(entries: Sequence[Entry]) -> str:
    names = [entry.name for entry in entries]
    return " ".join(names if len(names) <= MOST_NAMES else [*names[: MOST_NAMES - 2], "...", names[-1]])


def _lines(columns: Sequence[Column], width: int | None) -> list[str]:
    """Return the lines of the table. Where it is too wide, cells are split, and the overrides are wrapped."""
    cells, widths = [[[cell] for cell in column.cells] for column in columns], [column.width for column in columns]
    gaps = len(GAP) * (len(columns) - 1)
    if width is not None:
        for splits in ([2], range(3, len(columns))):  # the status, then the figures
            if gaps + sum(widths) - widths[1] + min(widths[1], NARROWEST) > width:
                for n in splits:
                    cells[n] = [_split(cell) for cell in columns[n].cells]
                    widths[n] = max(len(part) for cell in [[columns[n].title], *cells[n]] for part in cell)
        widths[1] = min(widths[1], max(NARROWEST, width - gaps - sum(widths) + widths[1]))
        cells[1] = [_wrapped(cell, widths[1]) for cell in columns[1].cells]
    lines = [_line([column.title for column in columns], widths, columns)]
    for row in zip(*cells, strict=True):
        lines += [_line(parts, widths, columns) for parts in zip_longest(*row, fillvalue="")]
    return lines


def _split(cell: str) -> list[str]:
    """Split `2 finished, 1 failed` and `0.9936 ± 0.0032` into two lines each."""
    return cell.replace(", ", "\n").replace(" ± ", "\n± ").splitlines() or [""]


def _wrapped(text: str, width: int) -> list[str]:
    """Split the text into lines at its spaces; a word that is too long is split after one of BREAKS."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
            continue
        while len(word) > width:
            cut = max(word.rfind(mark, 0, width) for mark in BREAKS) + 1 or width
            lines.append(word[:cut])
            word = word[cut:]
        lines.append(word)
    return lines


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    padded = [
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, width, column in zip(cells, widths, columns, strict=True)
    ]
    return GAP.join(padded).rstrip()
