"""Poly-1 loss: cross-entropy with another weight of the first term of its expansion in 1 - p.

Source: Leng et al. 2022, "PolyLoss", https://arxiv.org/abs/2204.12511, and its code with label smoothing.
Deviation: class weights.
"""

from typing import Any

from torch import Tensor

from fovea.losses.cross_entropy import CrossEntropy
from fovea.losses.label_shares import share_mean


def poly1_loss(
    logits: Tensor,
    target: Tensor,
    epsilon: float = 2.0,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """sum_k t_k w_k (-log p_k + epsilon (1 - p_k)) of an image, averaged as `share_mean` says; p = softmax, float32.

    Args:
        logits: (B, K) of any float type.
        target: (B,) int64 class indices, or the classes' shares t, (B, K).
        epsilon: >= -1, so that the loss falls as p rises; 0 is torch's cross-entropy.
        weight: w, (K,) >= 0; None means 1.
        label_smoothing: in [0, 1]; see `share_mean`.
        reduction: "mean", "sum", or "none" for (B,).
    """
    log_p = logits.float().log_softmax(1)  # (B, K)
    return share_mean(epsilon * (1 - log_p.exp()) - log_p, target, weight, label_smoothing, reduction)


class Poly1Loss(CrossEntropy):
    """`poly1_loss` as a module, for one label an image."""

    def __init__(self, epsilon: float = 2.0, **options: Any) -> None:
        """`options` are those of CrossEntropy. Raises ValueError if epsilon is below -1 or the weights don't fit."""
        if epsilon < -1:
            raise ValueError(
                f"loss.epsilon={epsilon}: below -1 the loss of a certain prediction would not be the lowest"
            )
        super().__init__(**options)
        self.epsilon = epsilon

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return a scalar; see `poly1_loss`."""
        return poly1_loss(logits, target, self.epsilon, self.weight, self.label_smoothing, self.reduction)
