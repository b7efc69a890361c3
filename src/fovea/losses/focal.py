"""Focal loss, which gives less weight to what is already predicted well, on a softmax or on sigmoids.

Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 4 and 5.
Deviations: class weights take the place of alpha on a softmax; no alpha by default; the mean over known labels instead
of the sum divided by the number of positives.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.losses import class_weights as weights
from fovea.losses.class_weights import Counts, Weights
from fovea.losses.cross_entropy import CrossEntropy
from fovea.losses.known_labels import known_mean, label_rows
from fovea.losses.label_shares import share_mean

LEAST = 1e-8  # of 1 - p, whose power has no gradient at 0 if gamma is below 1


def softmax_focal_loss(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """sum_k -t_k w_k (1 - p_k)^gamma log p_k of an image, in nats, averaged as `share_mean` says; p = softmax, float32.

    Args:
        logits: (B, K) of any float type.
        target: (B,) int64 class indices, or the classes' shares t, (B, K).
        gamma: focusing strength, >= 0; 0 is torch's cross-entropy.
        weight: w, (K,) >= 0; None means 1.
        label_smoothing: in [0, 1]; see `share_mean`.
        reduction: "mean", "sum", or "none" for (B,).
    """
    log_p = logits.float().log_softmax(1)  # (B, K)
    focus = (-torch.expm1(log_p)).clamp(min=LEAST) ** gamma
    return share_mean(-focus * log_p, target, weight, label_smoothing, reduction)


def sigmoid_focal_loss(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float | None = None,
    weight: Tensor | None = None,
    sum_classes: bool = False,
) -> Tensor:
    """Mean over the known entries of -w_k a (1 - q)^gamma (t log p + (1 - t) log(1 - p)), p = sigmoid.

    The loss is in nats, float32. q = t p + (1 - t)(1 - p) is the probability of the label, and
    a = alpha t + (1 - alpha)(1 - t).

    Args:
        logits: (B, K) of any float type.
        target: (B, K) in [0, 1], -1 where unknown; or (B,) int64 class indices, used as one-hot rows.
        gamma: focusing strength, >= 0; 0 is binary cross-entropy.
        alpha: weight of present labels, in [0, 1]; that of absent ones is 1 - alpha. None: both are 1.
        weight: w, (K,) >= 0; None means 1.
        sum_classes: sum over the classes instead of their mean; see `known_mean`.
    """
    logits, target = logits.float(), label_rows(target, logits.shape[1])  # (B, K)
    known, labels = target != -1, target.clamp(min=0).to(torch.float32)
    p = logits.sigmoid()
    focus = (labels * (1 - p) + (1 - labels) * p).clamp(min=LEAST) ** gamma  # 1 - q, to the power of gamma
    losses = focus * F.binary_cross_entropy_with_logits(logits, labels, weight, reduction="none")
    if alpha is not None:
        losses = losses * (alpha * labels + (1 - alpha) * (1 - labels))
    return known_mean(losses, known, sum_classes)


class FocalLoss(CrossEntropy):
    """`softmax_focal_loss` as a module, for one label an image."""

    def __init__(self, gamma: float = 2.0, **options: Any) -> None:
        """`options` are those of CrossEntropy. Raises ValueError if gamma is negative or the weights don't fit."""
        super().__init__(**options)
        self.gamma = checked_gamma("gamma", gamma)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return a scalar; see `softmax_focal_loss`."""
        return softmax_focal_loss(logits, target, self.gamma, self.weight, self.label_smoothing, self.reduction)


class SigmoidFocalLoss(nn.Module):
    """`sigmoid_focal_loss` as a module. The weights are not saved in checkpoints, as the config gives them."""

    weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = None,
        class_weights: Weights = None,
        sum_classes: bool = False,
        class_names: Sequence[str] | None = None,
        class_counts: Counts | None = None,
    ) -> None:
        """Raise ValueError if gamma is negative, alpha is not between 0 and 1, or the weights don't fit the classes."""
        super().__init__()
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"loss.alpha={alpha}: give a number from 0 to 1, or null for none")
        weight = weights.class_weights(class_weights, class_names, class_counts)
        self.register_buffer("weight", weight, persistent=False)
        self.gamma, self.alpha, self.sum_classes = checked_gamma("gamma", gamma), alpha, sum_classes

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return a scalar; see `sigmoid_focal_loss`."""
        return sigmoid_focal_loss(logits, target, self.gamma, self.alpha, self.weight, self.sum_classes)


def checked_gamma(name: str, gamma: float) -> float:
    """Return gamma. Raises ValueError if it is negative."""
    if gamma < 0:
        raise ValueError(f"loss.{name}={gamma}: a focusing strength is 0 or more")
    return gamma
