"""A table of a classifier's figures for each class, for one label or several labels an image.

Each class is measured against the others, over the known labels. The definitions are those of fovea.metrics.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fovea.report.prediction_file import Predictions

AT_ONCE = 10_000_000  # probabilities that are copied at once


class Counts(NamedTuple):
    """True positives, false positives, false negatives and true negatives of each class, (K,) int64."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor


class PerClass(NamedTuple):
    """The figures of each class, (K,): images is int64, the others float64 in [0, 1], nan where undefined (0 / 0).

    Attributes:
        images: those known to have the class.
        precision: tp / (tp + fp).
        recall: tp / (tp + fn).
        specificity: tn / (tn + fp).
        f1: 2 tp / (2 tp + fp + fn).
        average_precision: see `ranking`.
        auroc: see `ranking`.
    """

    images: Tensor
    precision: Tensor
    recall: Tensor
    specificity: Tensor
    f1: Tensor
    average_precision: Tensor
    auroc: Tensor


def per_class(predictions: Predictions, thresholds: float | Tensor = 0.5) -> PerClass:
    """Return the table. Single-label: the most probable class is predicted.

    Args:
        predictions: of N images.
        thresholds: multi-label: a class is predicted if its probability is above this, a number or (K,).
    """
    counts = class_counts(predictions, thresholds)
    ranked = [ranking(scores, positive) for scores, positive in _classes(predictions)]
    average_precisions, aurocs = torch.tensor(ranked, dtype=torch.float64).reshape(-1, 2).T
    images, specificity = counts.tp + counts.fn, _divide(counts.tn, counts.tn + counts.fp)
    rates = precision(counts), recall(counts), specificity, f1(counts)
    return PerClass(images, *rates, average_precisions, aurocs)


def class_counts(predictions: Predictions, thresholds: float | Tensor = 0.5) -> Counts:
    """Count the right and wrong predictions of each class; the arguments are those of `per_class`."""
    if predictions.task == "multiclass":
        return _count_single_label(predictions)
    predicted, labels = predictions.probabilities > thresholds, predictions.labels  # (N, K)
    tp, fp = (predicted & (labels == 1)).sum(0), (predicted & (labels == 0)).sum(0)
    return Counts(tp, fp, (labels == 1).sum(0) - tp, (labels == 0).sum(0) - fp)


def precision(counts: Counts) -> Tensor:
    """Return (K,): nan for a class that is never predicted."""
    return _divide(counts.tp, counts.tp + counts.fp)


def recall(counts: Counts) -> Tensor:
    """Return (K,): nan for a class without a known positive."""
    return _divide(counts.tp, counts.tp + counts.fn)


def f1(counts: Counts) -> Tensor:
    """Return (K,): nan for a class that is neither predicted nor present in a known label."""
    return _divide(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def ranking(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Return the average precision, nan without positives, and the area under the ROC curve, nan if one kind lacks.

    Average precision: the mean, over the positives, of the precision of "score >= the positive's score".
    Area: the share of (positive, negative) pairs in which the positive has the higher score; a tie counts 1/2.

    Args:
        scores: (N,) float, without nan.
        positive: (N,) bool.
    """
    found = np.sort(scores[positive])  # sorting values only is several times as fast as with their order
    if not len(found):
        return np.nan, np.nan
    scores = np.sort(scores)
    below, below_found = np.searchsorted(scores, found), np.searchsorted(found, found)
    average_precision = np.mean((len(found) - below_found) / (len(scores) - below))
    negatives = len(scores) - len(found)
    not_above = np.searchsorted(scores, found, "right") - np.searchsorted(found, found, "right")
    pairs = np.sum(below - below_found + not_above) / 2
    return float(average_precision), float(pairs / (len(found) * negatives)) if negatives else np.nan


def _count_single_label(predictions: Predictions) -> Counts:
    classes, labels = len(predictions.class_names), predictions.labels
    predicted = predictions.probabilities.argmax(1)
    tp = labels[predicted == labels].bincount(minlength=classes)
    fp, fn = predicted.bincount(minlength=classes) - tp, labels.bincount(minlength=classes) - tp
    return Counts(tp, fp, fn, len(predictions) - tp - fp - fn)


def _classes(predictions: Predictions) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each class's scores and which are positive, (n,) each, of the n images for which that is known."""
    rows = max(1, len(predictions))
    for classes in torch.arange(len(predictions.class_names)).split(max(1, AT_ONCE // rows)):
        some = slice(int(classes[0]), int(classes[-1]) + 1)
        columns = predictions.probabilities[:, some].T.contiguous().numpy()
        for k, scores in zip(classes.tolist(), columns, strict=True):
            if predictions.task == "multiclass":
                yield scores, (predictions.labels == k).numpy()
            else:
                target = predictions.labels[:, k].numpy()
                yield scores[target != -1], target[target != -1] == 1


def _divide(part: Tensor, whole: Tensor) -> Tensor:
    """Return the ratio of two integers (K,), float64; nan for 0 / 0."""
    return part.double() / whole
