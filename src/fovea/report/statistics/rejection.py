"""Rejecting images of which a single-label classifier is not confident, so that a person looks at them instead.

An image's confidence is the largest of its probabilities. Coverage is the share of images that are kept.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fovea.report.prediction_file import Predictions

TARGET = 0.99  # accuracy of the kept images
FEWEST = 20  # kept images: the accuracy of fewer says little
MOST_POINTS = 100  # of a curve


class Curve(NamedTuple):
    """What is kept with a confidence of at least `confidence`, as coverage grows; (P,) float64 each."""

    confidence: Tensor
    coverage: Tensor
    accuracy: Tensor


class Kept(NamedTuple):
    """Of the images with a confidence of at least `threshold`: their share of all, their accuracy, nan if none."""

    threshold: float
    coverage: float
    accuracy: float


def coverage_curve(predictions: Predictions) -> Curve:
    """Return the accuracy of the most confident images, at no more than MOST_POINTS coverages that are evenly spaced.

    Images with equal confidence are kept or rejected together.
    """
    curve = _full_curve(predictions)
    if len(curve.coverage) <= MOST_POINTS:
        return curve
    even = torch.linspace(float(curve.coverage[0]), 1, MOST_POINTS, dtype=torch.float64)
    points = torch.searchsorted(curve.coverage, even).clamp(max=len(curve.coverage) - 1).unique()
    return Curve(*(values[points] for values in curve))


def reject_threshold(validation: Predictions, target: float = TARGET) -> Kept:
    """Choose the confidence below which images are rejected, and say what it keeps of the validation images.

    It is the lowest confidence of a validation image such that the accuracy of those kept is at least `target`, and at
    least FEWEST are kept. If no confidence reaches the target, it is the lowest of those with the highest accuracy,
    again with at least FEWEST kept. It is 0 if no validation image needs to be rejected, as with no more than FEWEST.
    The accuracy on other images is usually a little lower, as the threshold was chosen on these.

    Raises:
        ValueError: there are no images.
    """
    if not len(validation):
        raise ValueError("the validation split has no images, so there is no threshold: validate on at least one")
    confidence, coverage, accuracy = _full_curve(validation)
    enough = coverage * len(validation) >= min(FEWEST, len(validation)) - 0.5
    reached = enough & (accuracy >= min(target, float(accuracy[enough].max())))
    last = int(reached.nonzero().max())
    threshold = 0.0 if last == len(coverage) - 1 else float(confidence[last])
    return Kept(threshold, float(coverage[last]), float(accuracy[last]))


def at_threshold(predictions: Predictions, threshold: float) -> Kept:
    """Return what a threshold keeps of other images than it was chosen on."""
    confidence, predicted = predictions.probabilities.max(1)
    kept = confidence >= threshold
    correct = (predicted == predictions.labels)[kept]
    return Kept(threshold, float(kept.double().mean()), float(correct.double().mean()))


def _full_curve(predictions: Predictions) -> Curve:
    """Return a point for each distinct confidence, from the highest on."""
    confidence, predicted = predictions.probabilities.max(1)
    confidence, order = confidence.sort(descending=True)
    correct = (predicted == predictions.labels)[order].cumsum(0)  # (N,) among the first n
    last = (confidence.diff(append=confidence.new_full((1,), -1)) != 0).nonzero().flatten()  # of equal confidences
    kept = (last + 1).double()
    return Curve(confidence[last].double(), kept / len(predictions), correct[last] / kept)
