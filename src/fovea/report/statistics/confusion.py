"""Which classes are confused: the confusion matrix, and for several labels an image, errors that occur together."""

from typing import NamedTuple

import torch
from torch import Tensor

from fovea.report.prediction_file import Predictions

AT_ONCE = 10_000_000  # numbers of float32 that are multiplied at once


class Confused(NamedTuple):
    """How many images of the class `label` are predicted as `prediction`, and their share of the label's images."""

    label: int
    prediction: int
    images: int
    share: float


class ErrorPair(NamedTuple):
    """On how many images class `missed` is missed while class `false` is falsely predicted.

    `share` is their share of all images on which `missed` is missed.
    """

    missed: int
    false: int
    images: int
    share: float


def confusion_matrix(predictions: Predictions, group: int = 1) -> Tensor:
    """Return (C, C) int64: entry [i, j] counts the images of class i whose most probable class is j.

    With `group` > 1, rows and columns are sums over `group` neighbouring classes, C = ceil(K / group), as K * K counts
    of very many classes would not fit into memory.
    """
    classes = -(-len(predictions.class_names) // group)
    pairs = predictions.labels // group * classes + predictions.probabilities.argmax(1) // group  # (N,)
    return pairs.bincount(minlength=classes**2).reshape(classes, classes)


def most_confused(matrix: Tensor, most: int = 20) -> list[Confused]:
    """Return the largest entries off the diagonal of a confusion matrix (K, K), without zeros.

    Equal counts are in the order of their share, the largest first, and then of the classes.
    """
    return [Confused(*pair) for pair in _largest(matrix - matrix.diag().diag(), matrix.sum(1), most)]


def error_pairs(predictions: Predictions, thresholds: float | Tensor = 0.5, most: int = 20) -> list[ErrorPair]:
    """Return the pairs of classes for which, on most images, the first is missed and the second falsely predicted.

    Such a pair suggests that the second class is predicted in place of the first. The order is that of `most_confused`.

    Args:
        predictions: multi-label.
        thresholds: a class is predicted if its probability is above this, a number or (K,).
        most: how many pairs.
    """
    missed, false = _errors(predictions, thresholds)  # (N, K)
    together = torch.zeros(missed.shape[1], missed.shape[1], dtype=torch.int64)
    rows = max(1, AT_ONCE // missed.shape[1])
    for some_missed, some_false in zip(missed.split(rows), false.split(rows), strict=True):
        together += (some_missed.float().T @ some_false.float()).long()  # exact: at most AT_ONCE < 2^24
    return [ErrorPair(*pair) for pair in _largest(together, missed.sum(0), most)]


def _errors(predictions: Predictions, thresholds: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, K) bool each: missed, falsely predicted."""
    predicted = predictions.probabilities > thresholds
    return ~predicted & (predictions.labels == 1), predicted & (predictions.labels == 0)


def _largest(counts: Tensor, of_row: Tensor, most: int) -> list[tuple[int, int, int, float]]:
    """Return (row, column, count, count / of_row) of the largest counts (K, K) above zero; of_row: (K,)."""
    rows, columns = counts.nonzero(as_tuple=True)
    places = zip(rows.tolist(), columns.tolist(), counts[rows, columns].tolist(), of_row[rows].tolist(), strict=True)
    found = [(row, column, images, images / whole) for row, column, images, whole in places]
    return sorted(found, key=lambda pair: (-pair[2], -pair[3], pair[:2]))[:most]
