"""What is said of an epoch: a line for the log, and a row of a table for a terminal."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from fovea.callbacks.progress_line import clock_text

SPEED = "train/images_per_second"
FIRST = ("epoch", "step", "train/loss", "val/loss")  # columns at the left; the monitor's comes next
LAST = (SPEED, "time", "best")  # at the right
WIDTHS = {"epoch": 5, "best": 4}  # the least ones; of a figure 7
MISSING = "-"


class Column(NamedTuple):
    """A column of the table."""

    key: str
    width: int


AT_EPOCHS_END = (Column("train/loss", 7), Column(SPEED, 8), Column("time", 7))  # what a validation within one lacks


def epoch_text(done: float, total: int | None) -> str:
    """`3/10` after three epochs of ten, ` 3.25/10` at a validation a quarter of an epoch later, `3` without an end."""
    text = f"{done:.2f}" if done % 1 else str(int(done))
    return f"{text:>{len(str(total))}}/{total}" if total else text


def figure_text(value: float) -> str:
    """At most seven characters for what is at least 0: four decimals where there is room for them."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 0.001 <= abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:.1e}" if abs(value) < 0.001 or abs(value) >= 1e5 else f"{value:.5g}"


def duration_text(seconds: float) -> str:
    """`2.9s`, `48s`, `12:05` or `1:12:05`."""
    if seconds < 59.5:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    return clock_text(seconds)


def log_line(epoch: str, step: str, figures: Mapping[str, float], seconds: float | None, best: bool | None) -> str:
    """`epoch 3/15  train/loss 0.1234  train/images_per_second 400  val/accuracy 0.9733  time 2.9s  best`."""
    named = {"epoch": epoch.strip()} | ({"step": step.strip()} if step else {})
    order = sorted(figures, key=lambda name: (not name.startswith("train/"), name != "train/loss", name))
    named |= {name: f"{figures[name]:.4g}" for name in order}
    named |= {"time": duration_text(seconds)} if seconds is not None else {}
    return "  ".join([f"{name} {text}" for name, text in named.items()] + ["best"] * bool(best))


def cells(
    epoch: str, step: str, figures: Mapping[str, float], seconds: float | None, best: bool | None
) -> dict[str, str]:
    """The texts of a row by column; `best` is None where no checkpoint is kept by the monitor."""
    row = {"epoch": epoch} | ({"step": step} if step else {})
    row |= {name: f"{value:,.0f}" if name == SPEED else figure_text(value) for name, value in figures.items()}
    row |= {"time": duration_text(seconds)} if seconds is not None else {}
    return row | ({"best": "best" if best else ""} if best is not None else {})


def columns(row: Mapping[str, str], monitor: str, width: int, before: Sequence[Column] = ()) -> list[Column]:
    """The columns that fit into a terminal, the most important first to be taken, in the order in which they are shown.

    Args:
        row: the texts of the row to show.
        monitor: the figure that the best checkpoint is chosen by.
        width: of the terminal.
        before: the columns so far: they stay, and none becomes narrower.
    """
    widths = {key: max(WIDTHS.get(key, 7), len(_header(key)[1]), len(text)) for key, text in row.items()}
    for column in before:
        widths[column.key] = max(widths.get(column.key, 0), column.width)
    taken, room = list[str](), width
    for key in _by_importance(widths, monitor):
        if widths[key] + 2 * bool(taken) <= room:
            room -= widths[key] + 2 * bool(taken)
            taken.append(key)
    return [Column(key, widths[key]) for key in _as_shown(taken, monitor)]


def _by_importance(keys: Collection[str], monitor: str) -> list[str]:
    important = [*FIRST, monitor, "best", SPEED, "time"]
    return [key for key in dict.fromkeys([*important, *sorted(keys)]) if key in keys]


def _as_shown(keys: Collection[str], monitor: str) -> list[str]:
    others = sorted(key for key in keys if key not in LAST)
    return [key for key in dict.fromkeys([*FIRST, monitor, *others, *LAST]) if key in keys]


def header(shown: Sequence[Column]) -> str:
    """Two lines: the split above the first of its columns, and the columns' names."""
    groups = [_header(column.key)[0] for column in shown]
    firsts = ["" if n and group == groups[n - 1] else group for n, group in enumerate(groups)]
    return _aligned(shown, firsts) + "\n" + _aligned(shown, [_header(column.key)[1] for column in shown])


def row_text(shown: Sequence[Column], row: Mapping[str, str]) -> str:
    """One line of the table; what the row lacks is a dash."""
    return _aligned(shown, [row.get(column.key, "" if column.key == "best" else MISSING) for column in shown])


def _aligned(shown: Sequence[Column], texts: Sequence[str]) -> str:
    return "  ".join(f"{text:>{column.width}}" for column, text in zip(shown, texts, strict=True)).rstrip()


def _header(key: str) -> tuple[str, str]:
    """(split, name); `val/accuracy` stands as `accuracy` below `val`."""
    if key == SPEED:
        return "", "images/s"
    split, _, name = key.rpartition("/")
    return split, "" if key == "best" else name
