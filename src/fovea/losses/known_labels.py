"""What the losses of one sigmoid for each class share: rows of labels, and the mean over the known ones."""

import torch
from torch import Tensor
from torch.nn import functional as F


def label_rows(target: Tensor, num_classes: int) -> Tensor:
    """Return (B, K) labels: class indices (B,) as one-hot rows, labels (B, K) as they are."""
    return F.one_hot(target, num_classes) if target.ndim == 1 else target


def known_mean(losses: Tensor, known: Tensor, sum_classes: bool = False) -> Tensor:
    """Return the mean of `losses` over the known entries, a scalar; 0 if nothing is known.

    As in torch, the sum is divided by the number of known entries, not by their weights.

    Args:
        losses: (B, K), finite where unknown, so that the gradient there is 0.
        known: (B, K) bool.
        sum_classes: multiply the mean by K. If all labels are known, this is the sum over the classes, averaged over
            the images.
    """
    mean = torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)
    return mean * losses.shape[1] if sum_classes else mean
