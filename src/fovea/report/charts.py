"""Computes what the charts of a page show: histograms, outlines of bars, and curves, as numbers for SVG."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 1000, 300  # of a chart in SVG's units
MOST_BARS = 500  # in an outline; more values are averaged in groups


class Histogram(NamedTuple):
    """The shares of N values in equal bins from `low` to `high`, as an SVG path, and the largest share."""

    path: str
    low: float
    high: float
    most: float


def histograms(series: Sequence[np.ndarray], bins: int = 25) -> list[Histogram]:
    """Return a histogram of each series; all have the same bins, so that they can be compared.

    Args:
        series: each (N,) numbers; an empty one has an empty histogram.
        bins: the number of bins between the smallest and the largest value of all. A few different whole numbers have a
            bin each instead.
    """
    values = np.concatenate([np.asarray(one, float) for one in series]) if series else np.empty(0)
    if not len(values):
        return [Histogram("", 0.0, 0.0, 0.0) for _ in series]
    edges = _edges(values, bins)
    shares = [np.histogram(one, edges)[0] / max(1, len(one)) for one in series]
    return [Histogram(outline(share), float(values.min()), float(values.max()), float(share.max())) for share in shares]


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the bins' edges; a single value gets a bin in the middle."""
    low, high = values.min(), values.max()
    if low == high:
        return np.linspace(low - 1, high + 1, bins + 1)
    if high - low < bins and (values == values.round()).all():
        return np.arange(low - 0.5, high + 1)
    return np.linspace(low, high, bins + 1)


def curve(values: np.ndarray, highest: float) -> str:
    """Return the SVG path of a line through values over WIDTH units; `highest` is HEIGHT units above 0.

    Args:
        values: (N,) numbers in [0, highest]. Of more than 2 * MOST_BARS, the least and greatest of each of MOST_BARS
            groups of neighbours are kept.
        highest: > 0.
    """
    places = np.arange(len(values))
    if len(values) > 2 * MOST_BARS:
        groups = np.array_split(places, MOST_BARS)
        ends = {int(end) for g in groups for end in (g[values[g].argmin()], g[values[g].argmax()])}
        places = np.array(sorted(ends | {0, len(values) - 1}))
    x, y = WIDTH * places / max(1, len(values) - 1), HEIGHT * (1 - values[places] / highest)
    return "M" + " ".join(f"{a:.5g} {b:.5g}" for a, b in zip(x, y, strict=True))


def outline(heights: np.ndarray) -> str:
    """Return the SVG path of adjacent bars, WIDTH units wide in all; the highest has HEIGHT units.

    Args:
        heights: (N,) numbers >= 0. More than MOST_BARS are averaged in groups of neighbours.
    """
    if len(heights) > MOST_BARS:
        heights = np.array([group.mean() for group in np.array_split(np.asarray(heights, float), MOST_BARS)])
    if not len(heights) or not heights.max():
        return ""
    edges = np.linspace(0, WIDTH, len(heights) + 1)
    tops = HEIGHT - HEIGHT * heights / heights.max()
    steps = " ".join(
        f"L{left:.5g} {top:.5g}H{right:.5g}" for left, right, top in zip(edges[:-1], edges[1:], tops, strict=True)
    )
    return f"M0 {HEIGHT} {steps} L{WIDTH} {HEIGHT}Z"
