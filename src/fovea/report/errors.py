"""The images that a network classifies wrongly, as rows of errors.csv."""

from typing import Any

import torch
from torch import Tensor

from fovea.report.prediction_file import Predictions
from fovea.report.predictions import with_probabilities

THRESHOLD = 0.5  # a class is predicted above it, as in the metrics
MOST_COLUMNS = 100  # classes whose probabilities are written; with more, the file of all predictions has them


def wrong(predictions: Predictions) -> Tensor:
    """Return (N,) bool: the most probable class is another one; or a known label is on the other side of THRESHOLD."""
    if predictions.task == "multiclass":
        return predictions.probabilities.argmax(1) != predictions.labels
    return wrong_labels(predictions).any(1)


def wrong_labels(predictions: Predictions) -> Tensor:
    """Return (N, K) bool for several labels an image; unknown labels are never wrong."""
    labels = predictions.labels
    return (labels != -1) & ((predictions.probabilities > THRESHOLD) != (labels == 1))


def certainty(predictions: Predictions) -> Tensor:
    """Return (N,): the predicted class's probability; for several labels, the largest |p - 0.5| + 0.5 of a wrong label.

    An image without a wrong label has the smallest of its known labels instead: how sure the least sure one is.
    """
    if predictions.task == "multiclass":
        return predictions.probabilities.amax(1)
    sure = (predictions.probabilities - THRESHOLD).abs() + THRESHOLD  # (N, K)
    of_wrong = sure.masked_fill(~wrong_labels(predictions), 0).amax(1)
    of_known = sure.masked_fill(predictions.labels == -1, 1).amin(1)
    return torch.where(of_wrong > 0, of_wrong, of_known)


def error_rows(predictions: Predictions) -> list[dict[str, Any]]:
    """Return a row for each wrong image, the most certain mistakes first.

    Columns: path, then label, predicted, probability (of the predicted class); or missed, false, probability (of the
    most certain wrong label), with names joined by ";". Then `p(<class>)` of each class, up to MOST_COLUMNS classes.
    """
    sure = certainty(predictions)
    order = wrong(predictions).nonzero().flatten()
    order = order[sure[order].argsort(descending=True, stable=True)]
    mistakes = predictions.take(order.tolist())
    texts = _single_label(mistakes) if predictions.task == "multiclass" else _multilabel(mistakes)
    rows = [
        {"path": path, **text, "probability": round(value, 6)}
        for path, text, value in zip(mistakes.paths, texts, sure[order].tolist(), strict=True)
    ]
    if len(predictions.class_names) > MOST_COLUMNS:
        return rows
    return with_probabilities(rows, mistakes.probabilities, predictions.class_names)


def _single_label(mistakes: Predictions) -> list[dict[str, str]]:
    names, predicted = mistakes.class_names, mistakes.probabilities.argmax(1).tolist()
    pairs = zip(mistakes.labels.tolist(), predicted, strict=True)
    return [{"label": names[label], "predicted": names[other]} for label, other in pairs]


def _multilabel(mistakes: Predictions) -> list[dict[str, str]]:
    def joined(rows: Tensor) -> list[str]:
        return [";".join(mistakes.class_names[k] for k in row.nonzero().flatten().tolist()) for row in rows]

    bad, present = wrong_labels(mistakes), mistakes.labels == 1
    pairs = zip(joined(bad & present), joined(bad & ~present), strict=True)
    return [{"missed": missed, "false": false} for missed, false in pairs]
