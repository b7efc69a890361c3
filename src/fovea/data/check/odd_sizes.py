"""Finds images whose size or aspect ratio is far from the others'."""

import numpy as np

FENCE = 3.0  # interquartile ranges; Tukey's "far out"
SLACK = 1.0  # powers of two, so that images within a factor of two of the quartiles are never odd


def outliers(values: np.ndarray) -> np.ndarray:
    """Return (N,) bool: whether a value is far from the others on a logarithmic scale.

    With the quartiles a and b of log2(values), a value is an outlier below a - FENCE (b - a) - SLACK and above
    b + FENCE (b - a) + SLACK.

    Source: Tukey 1977, Exploratory Data Analysis, section 2D. Deviation: SLACK.

    Args:
        values: (N,) numbers > 0.
    """
    if not len(values):
        return np.zeros(0, bool)
    logs = np.log2(values)
    low, high = np.quantile(logs, [0.25, 0.75])
    reach = FENCE * (high - low) + SLACK
    return (logs < low - reach) | (logs > high + reach)
