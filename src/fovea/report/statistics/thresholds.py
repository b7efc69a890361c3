"""Probability thresholds for several labels an image: those with the best F1 of each class, and their effect."""

import torch
from torch import Tensor

from fovea.report.prediction_file import Predictions
from fovea.report.statistics.per_class import class_counts, f1, precision, recall

MOST_POINTS = 100  # of a curve


def best_thresholds(validation: Predictions) -> Tensor:
    """Return each class's threshold with the highest F1 over the known labels, (K,) float32; 0.5 without a positive.

    A class is predicted if its probability is above its threshold.
    """
    pairs = zip(validation.probabilities.T, validation.labels.T, strict=True)
    return torch.tensor([best_threshold(scores[target != -1], target[target != -1] == 1) for scores, target in pairs])


def best_threshold(scores: Tensor, positive: Tensor) -> float:
    """Return the threshold t in [0, 1) for which predicting `score > t` has the highest F1.

    All t between two neighbouring scores predict the same. Of each such gap, 0.5 is considered if it lies within,
    else the middle; of equally good ones, the nearest to 0.5 is returned.

    Args:
        scores: (N,) float32 in [0, 1].
        positive: (N,) bool; the result is 0.5 if none is True.
    """
    if not positive.any():
        return 0.5
    scores, order = scores.sort(descending=True)
    last = (scores.diff(append=scores.new_full((1,), -1)) != 0).nonzero().flatten()  # of equal scores
    found = positive[order].cumsum(0)[last]
    values = (2 * found).double() / (last + 1 + positive.sum())  # F1 = 2 tp / (predicted + positive)
    high = scores[last]
    low = torch.cat([high[1:], high.new_zeros(1)])
    values, high, low = values[high > 0], high[high > 0], low[high > 0]
    if not len(values):
        return 0.5
    candidates = _within(low, high)[values == values.max()]
    return float(candidates[(candidates - 0.5).abs().argmin()])


def _within(low: Tensor, high: Tensor) -> Tensor:
    """Return a threshold t of each gap, low <= t < high: 0.5 or the middle."""
    middle = low + (high - low) / 2
    middle = torch.where(middle < high, middle, low)  # of neighbouring numbers, it is rounded
    return torch.where((low <= 0.5) & (high > 0.5), 0.5, middle)


def at_thresholds(predictions: Predictions, thresholds: float | Tensor) -> dict[str, Tensor]:
    """Return precision, recall and f1 of each class, (K,) float64, over the known labels; nan where undefined (0 / 0).

    Args:
        predictions: multi-label.
        thresholds: a number or (K,).
    """
    counts = class_counts(predictions, thresholds)
    return {"precision": precision(counts), "recall": recall(counts), "f1": f1(counts)}


def precision_recall_curve(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return precision, recall and thresholds (P,), as recall grows: those of predicting `score >= threshold`.

    There is a point for each distinct score, or if these are more than MOST_POINTS, points at equal distances along the
    curve.

    Args:
        scores: (N,) float.
        target: (N,) 1 present, 0 absent, -1 unknown; unknown entries are ignored. All are empty without a positive.
    """
    scores, order = scores[target != -1].sort(descending=True)
    positive = target[target != -1][order] == 1
    if not positive.any():
        return torch.empty(0), torch.empty(0), torch.empty(0)
    last = (scores.diff(append=scores.new_full((1,), -1)) != 0).nonzero().flatten()  # of equal scores
    found = positive.cumsum(0)[last].double()
    precisions, recalls = found / (last + 1), found / positive.sum()
    points = _spread(precisions, recalls)
    return precisions[points], recalls[points], scores[last][points]


def _spread(x: Tensor, y: Tensor) -> Tensor:
    """Return the indices of at most MOST_POINTS points, at equal distances along the curve, with both ends."""
    if len(x) <= MOST_POINTS:
        return torch.arange(len(x))
    length = torch.cat([x.new_zeros(1), (x.diff().abs() + y.diff().abs()).cumsum(0)])
    even = torch.linspace(0, float(length[-1]), MOST_POINTS, dtype=length.dtype)
    points = torch.searchsorted(length, even).clamp(max=len(x) - 1)
    points[-1] = len(x) - 1
    return points.unique()
