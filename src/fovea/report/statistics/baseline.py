"""The majority-class baseline: predictions that ignore the image."""

from dataclasses import replace

from torch import Tensor

from fovea.report.prediction_file import Predictions


def class_frequencies(labels: Tensor, num_classes: int) -> Tensor:
    """Return the share of images of each class, (K,) float32.

    Args:
        labels: of the training split: (M,) class indices; or (M, K) 1 present, 0 absent, -1 unknown, of which each
            class's known labels are counted. A class without a known label has a share of 0.
        num_classes: K.
    """
    if labels.ndim == 1:
        return (labels.long().bincount(minlength=num_classes) / max(1, len(labels))).float()
    return (labels == 1).sum(0) / (labels != -1).sum(0).clamp(min=1)


def majority(predictions: Predictions, frequencies: Tensor) -> Predictions:
    """Return the predictions of a classifier that gives every image the same probabilities: the class frequencies.

    So the most frequent class is always predicted; for several labels an image, each class present in more than half of
    the training images. A trained classifier should have better metrics.

    Args:
        predictions: those whose images and labels are taken.
        frequencies: (K,) from `class_frequencies` of the training split.
    """
    return replace(predictions, probabilities=frequencies.expand(len(predictions), -1))
