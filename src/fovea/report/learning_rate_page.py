"""Shows a learning-rate range test: the loss at each rate, and the suggested rates."""

from collections.abc import Sequence

import numpy as np

from fovea.report.charts import HEIGHT, WIDTH, curve
from fovea.report.page import render


def learning_rate_page(
    title: str,
    facts: Sequence[tuple[str, str]],
    rates: np.ndarray,
    losses: np.ndarray,
    means: np.ndarray,
    marks: Sequence[tuple[str, float]],
) -> str:
    """Return the page.

    Args:
        title: the heading.
        facts: names and values, shown as a table.
        rates: (S,) > 0, in equal ratios, so that the chart's axis is logarithmic.
        losses: (S,), of each step.
        means: (S,), smoothed; the chart ends a little above the highest of those up to their minimum.
        marks: names and rates, shown as vertical lines.
    """
    least = int(means.argmin())
    low, high = float(means[least]), float(means[: least + 1].max())
    margin = 0.15 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def shown(values: np.ndarray) -> str:
        return curve(np.clip(values, low, high) - low, high - low)

    return render(
        "learning_rate.html",
        title=title,
        facts=facts,
        curves=[("loss of a step", 2, shown(losses)), ("smoothed loss", 1, shown(means))],
        marks=[(name, f"{rate:.3g}", _place(rate, rates)) for name, rate in marks],
        levels=[f"{high - share * (high - low):.4g}" for share in (0, 0.5, 1)],
        ends=[f"{rate:.3g}" for rate in (rates[0], np.sqrt(rates[0] * rates[-1]), rates[-1])],
        chart_width=WIDTH,
        chart_height=HEIGHT,
    )


def _place(rate: float, rates: np.ndarray) -> float:
    """Return a rate's place on the chart's logarithmic axis, from 0 to WIDTH."""
    share = np.log(rate / rates[0]) / np.log(rates[-1] / rates[0])
    return round(float(WIDTH * np.clip(share, 0, 1)), 1)
