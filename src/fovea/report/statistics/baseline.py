"""The majority-class baseline: predictions that ignore the image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fovea.report.prediction_file import Predictions


def class_shares(counts: Mapping[str, Sequence[int]]) -> Tensor:
    """Return the share of each class among its known labels, (K,) float32; 0 for a class without a known label.

    Args:
        counts: of the training split: {"present": [...], "absent": [...]}, K numbers each.
    """
    present, absent = (torch.tensor(counts[name]) for name in ("present", "absent"))
    return present / (present + absent).clamp(min=1)


def majority(predictions: Predictions, frequencies: Tensor) -> Predictions:
    """Return the predictions of a classifier that gives every image the same probabilities: the class frequencies.

    So the most frequent class is always predicted; for several labels an image, each class present in more than half of
    the training images. A trained classifier should have better metrics.

    Args:
        predictions: those whose images and labels are taken.
        frequencies: (K,) from `class_shares`.
    """
    return replace(predictions, probabilities=frequencies.expand(len(predictions), -1))
