"""Calibration: whether probabilities are the frequencies of being right, and temperature scaling, which corrects them.

For one label an image, confidence is the largest probability, and accuracy is how often its class is the label. For
several labels, each known (image, class) is counted: confidence is the class's probability, and accuracy is how
often the class is present.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from fovea.report.prediction_file import Predictions

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # temperatures
PRECISION = 1e-3  # of the logarithm of a fitted temperature
SMALLEST = torch.finfo(torch.float32).tiny  # what a probability of 0 is taken for
LARGEST = 1 - 2**-24  # the float32 before 1; what a probability of 1 is taken for in a sigmoid's logit
AT_ONCE = 10_000_000  # numbers that are computed at once


class Reliability(NamedTuple):
    """Equal-width bins of confidence: mean confidence, accuracy (both nan in an empty bin) and number of predictions.

    Each is (bins,).
    """

    confidence: Tensor
    accuracy: Tensor
    counts: Tensor


def reliability(predictions: Predictions, bins: int = BINS) -> Reliability:
    """Return the bins (0, 1/bins], ..., (1 - 1/bins, 1] of a reliability diagram; 0 is in the first bin.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 2.
    """
    confidence, correct = _outcomes(predictions)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    of_bin = torch.bucketize(confidence, edges)  # edge < confidence <= next edge
    counts = of_bin.bincount(minlength=bins)
    mean, accuracy = (of_bin.bincount(values, minlength=bins) / counts for values in (confidence, correct.double()))
    return Reliability(mean, accuracy, counts)


def expected_calibration_error(reliability: Reliability) -> float:
    """Return the mean over all predictions of their bin's |accuracy - confidence|, in [0, 1]; nan without predictions.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, eq. 3.
    """
    gaps = (reliability.accuracy - reliability.confidence).abs().nan_to_num()
    return float((gaps * reliability.counts).sum() / reliability.counts.sum())


def negative_log_likelihood(predictions: Predictions) -> float:
    """Return the mean of -log(probability of the label), in nats, over images or known (image, class) pairs.

    A probability of 0 counts as SMALLEST, and for several labels 1 as LARGEST, so the result is finite. It is nan
    without a known label.
    """
    return _likelihood(_logits(predictions.probabilities, predictions.task), predictions.labels, 1.0)


def fit_temperature(validation: Predictions) -> float:
    """Return the temperature with the lowest negative log-likelihood, in [COLDEST, HOTTEST].

    Above 1 the network was overconfident. It is COLDEST if colder is always better, as when each prediction is right,
    and 1 if none is better than 1 by more than 1e-9 nats.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2. Deviation: bounds, and a search over log T
    (the likelihood is convex in 1 / T, so it has one minimum).

    Raises:
        ValueError: no label is known.
    """
    if not (validation.labels != -1).any():
        raise ValueError("no label of the validation split is known, so there is no temperature: validate on some")
    logits = _logits(validation.probabilities, validation.task)

    def likelihood(log_temperature: float) -> float:
        return _likelihood(logits, validation.labels, float(np.exp(log_temperature)))

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    found = minimize_scalar(likelihood, bounds=bounds, method="bounded", options={"xatol": PRECISION}).x
    best = min((0.0, found, *bounds), key=lambda log_temperature: round(likelihood(log_temperature), 9))
    return float(np.exp(best).round(6))


def apply_temperature(probabilities: Tensor, temperature: float, task: Literal["multiclass", "multilabel"]) -> Tensor:
    """Return softmax(log p / T), or for several labels sigmoid(log(p / (1 - p)) / T).

    These are the probabilities of the network's logits divided by T, as logits are log p up to a constant of each
    image. Apart from rounding, the order of an image's classes does not change, nor which are above 0.5 for several
    labels.

    Args:
        probabilities: (N, K) float32; 0 and 1 are taken as for `negative_log_likelihood`.
        temperature: > 0; at 1 the input is returned.
        task: which of the two.

    Returns:
        (N, K) float32.
    """
    if temperature == 1:
        return probabilities
    logits = _logits(probabilities, task) / temperature
    return logits.sigmoid() if task == "multilabel" else logits.softmax(1)


def _outcomes(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Return confidences (M,) float64 and whether each prediction is right (M,)."""
    if predictions.task == "multiclass":
        confidence, predicted = predictions.probabilities.max(1)
        return confidence.double(), predicted == predictions.labels
    known = predictions.labels != -1
    return predictions.probabilities[known].double(), predictions.labels[known] == 1


def _likelihood(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """Return the mean negative log-likelihood at a temperature, computed for some images at a time.

    logits: (N, K); labels: (N,), or (N, K) with -1 where unknown.
    """
    rows = max(1, AT_ONCE // max(1, logits.shape[1]))
    total, known = 0.0, 0
    for values, targets in zip(logits.split(rows), labels.split(rows), strict=True):
        scaled = values / temperature
        if labels.ndim == 1:
            losses = cross_entropy(scaled, targets, reduction="none")
        else:
            losses = softplus(torch.where(targets == 1, -scaled, scaled))[targets != -1]
        total, known = total + float(losses.double().sum()), known + losses.numel()
    return total / known if known else np.nan


def _logits(probabilities: Tensor, task: Literal["multiclass", "multilabel"]) -> Tensor:
    if task == "multiclass":
        return probabilities.clamp(min=SMALLEST).log()
    probabilities = probabilities.clamp(SMALLEST, LARGEST)
    return probabilities.log() - (-probabilities).log1p()
