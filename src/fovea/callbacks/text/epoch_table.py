"""Formats the figures of an epoch: a line for the log and a table row for the terminal."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from fovea.callbacks.text.progress_line import clock_text

SPEED = "train/images_per_second"
FIRST = ("epoch", "step", "train/loss", "val/loss")  # columns on the left, followed by the monitor
LAST = (SPEED, "time", "best")  # columns on the right
MIN_WIDTHS = {"epoch": 5, "best": 4}  # 7 for any other column
MISSING = "-"


class Column(NamedTuple):
    """A column of the table."""

    key: str
    width: int


EPOCH_COLUMNS = (Column("train/loss", 7), Column(SPEED, 8), Column("time", 7))  # only rows of whole epochs fill them


def epoch_text(done: float, total: int | None) -> str:
    """Return `3/10` after three of ten epochs, `3.25/10` a quarter of an epoch later, `3` without a last epoch."""
    text = f"{done:.2f}" if done % 1 else str(int(done))
    return f"{text:>{len(str(total))}}/{total}" if total else text


def figure_text(value: float) -> str:
    """Return the value in at most seven characters (if it is 0 or more), with four decimals if they fit."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 0.001 <= abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:.1e}" if abs(value) < 0.001 or abs(value) >= 1e5 else f"{value:.5g}"


def duration_text(seconds: float) -> str:
    """Return the duration as `2.9s`, `48s`, `12:05` or `1:12:05`."""
    if seconds < 59.5:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    return clock_text(seconds)


def log_line(epoch: str, step: str, figures: Mapping[str, float], seconds: float | None, best: bool | None) -> str:
    """Return `epoch 3/15  train/loss 0.1234  train/images_per_second 400  val/accuracy 0.9733  time 2.9s  best`."""
    named = {"epoch": epoch.strip()} | ({"step": step.strip()} if step else {})
    order = sorted(figures, key=lambda name: (not name.startswith("train/"), name != "train/loss", name))
    named |= {name: f"{figures[name]:.4g}" for name in order}
    named |= {"time": duration_text(seconds)} if seconds is not None else {}
    return "  ".join([f"{name} {text}" for name, text in named.items()] + ["best"] * bool(best))


def cells(
    epoch: str, step: str, figures: Mapping[str, float], seconds: float | None, best: bool | None
) -> dict[str, str]:
    """Return the texts of a row by column; `best` is None if no checkpoint is saved by the monitor."""
    row = {"epoch": epoch} | ({"step": step} if step else {})
    row |= {name: f"{value:,.0f}" if name == SPEED else figure_text(value) for name, value in figures.items()}
    row |= {"time": duration_text(seconds)} if seconds is not None else {}
    return row | ({"best": "best" if best else ""} if best is not None else {})


def columns(row: Mapping[str, str], monitor: str, width: int, before: Sequence[Column] = ()) -> list[Column]:
    """Return the columns that fit into the terminal, in display order. The most important ones are chosen first.

    Args:
        row: the texts of the row to show.
        monitor: the figure that the best checkpoint is chosen by.
        width: of the terminal, in characters.
        before: the columns of the row before; they are kept and don't become narrower.
    """
    widths = {key: max(MIN_WIDTHS.get(key, 7), len(_header(key)[1]), len(text)) for key, text in row.items()}
    for column in before:
        widths[column.key] = max(widths.get(column.key, 0), column.width)
    chosen, room = list[str](), width
    for key in _by_importance(widths, monitor):
        if widths[key] + 2 * bool(chosen) <= room:
            room -= widths[key] + 2 * bool(chosen)
            chosen.append(key)
    return [Column(key, widths[key]) for key in _in_display_order(chosen, monitor)]


def _by_importance(keys: Collection[str], monitor: str) -> list[str]:
    important = [*FIRST, monitor, "best", SPEED, "time"]
    return [key for key in dict.fromkeys([*important, *sorted(keys)]) if key in keys]


def _in_display_order(keys: Collection[str], monitor: str) -> list[str]:
    others = sorted(key for key in keys if key not in LAST)
    return [key for key in dict.fromkeys([*FIRST, monitor, *others, *LAST]) if key in keys]


def header(shown: Sequence[Column]) -> str:
    """Return two lines: the names of the splits, each above its first column, and the names of the columns."""
    groups = [_header(column.key)[0] for column in shown]
    firsts = ["" if n and group == groups[n - 1] else group for n, group in enumerate(groups)]
    return _aligned(shown, firsts) + "\n" + _aligned(shown, [_header(column.key)[1] for column in shown])


def row_text(shown: Sequence[Column], row: Mapping[str, str]) -> str:
    """Return a line of the table, with a dash for each missing figure."""
    return _aligned(shown, [row.get(column.key, "" if column.key == "best" else MISSING) for column in shown])


def _aligned(shown: Sequence[Column], texts: Sequence[str]) -> str:
    return "  ".join(f"{text:>{column.width}}" for column, text in zip(shown, texts, strict=True)).rstrip()


def _header(key: str) -> tuple[str, str]:
    """Return the two header lines of a column: `val/accuracy` has `val` above `accuracy`."""
    if key == SPEED:
        return "", "images/s"
    split, _, name = key.rpartition("/")
    return split, "" if key == "best" else name
