"""Shows the learning rates of a run: a table as text, and a page with their curves."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fovea.report.charts import HEIGHT, WIDTH, curve
from fovea.report.page import render

COLORS = 4  # of curves, in style.css


class Group(NamedTuple):
    """A parameter group: its name in the logs, its size and weight decay, and its rate at each step, (S,)."""

    name: str
    parameters: int
    weight_decay: float
    rates: np.ndarray


class Row(NamedTuple):
    """A row of the table; steps count from 1."""

    name: str
    parameters: str
    weight_decay: str
    first: str
    highest: str
    at_step: str
    last: str


HEADINGS = Row("group", "parameters", "weight decay", "first rate", "highest", "at step", "last")


def rows(groups: Sequence[Group]) -> list[Row]:
    """Return the rows of the table. The step of the highest rate is the first one that has it."""
    return [
        Row(
            group.name,
            f"{group.parameters:,}",
            f"{group.weight_decay:g}",
            f"{group.rates[0]:.4g}",
            f"{group.rates.max():.4g}",
            f"{int(group.rates.argmax()) + 1:,}",
            f"{group.rates[-1]:.4g}",
        )
        for group in groups
    ]


def table(groups: Sequence[Group]) -> str:
    """Return the table as aligned text."""
    lines = [HEADINGS, *rows(groups)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def schedule_page(
    title: str,
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
    groups: Sequence[Group],
    epoch_of: Callable[[int], int],
) -> str:
    """Return the page; groups with the same rates share a curve.

    Args:
        title: the heading.
        facts: names and values, shown as a table.
        notes: what the curves don't show.
        groups: one or more, all with the same number of steps.
        epoch_of: (optimizer step) -> its epoch; both are counted from 0.
    """
    highest = max(float(group.rates.max()) for group in groups) or 1.0
    shared: dict[bytes, list[Group]] = {}
    for group in groups:
        shared.setdefault(group.rates.tobytes(), []).append(group)
    steps = len(groups[0].rates)
    return render(
        "schedule.html",
        title=title,
        facts=facts,
        notes=notes,
        curves=[
            (", ".join(g.name for g in same), n % COLORS + 1, curve(same[0].rates, highest))
            for n, same in enumerate(shared.values())
        ],
        levels=[f"{highest * share:.4g}" for share in (1, 0.5, 0)],
        ends=[f"step {step:,}, epoch {epoch_of(step - 1) + 1:,}" for step in (1, (steps + 1) // 2, steps)],
        headings=HEADINGS,
        rows=rows(groups),
        chart_width=WIDTH,
        chart_height=HEIGHT,
    )
