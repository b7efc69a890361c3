"""Formats numbers for a report."""

import math
from collections.abc import Sequence


def figure_text(value: float | None) -> str:
    """Return a figure with four decimals, or with three digits if it is very small."""
    if value is None or math.isnan(value):
        return "undefined"
    return f"{value:.3g}" if is_small(value) else f"{value:.4f}"


def is_small(value: float) -> bool:
    """Whether four decimals would leave less than one digit of the value."""
    return 0 < abs(value) < 0.001


def duration(seconds: float) -> str:
    """Return `42 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def rounded(values: Sequence[float], digits: int = 4) -> list[float | None]:
    """Return the values with few digits, None for nan: JSON has no nan."""
    return [None if math.isnan(value) else round(value, digits) for value in values]
