"""Binary cross-entropy that counts only what is known.

Source for single-label data: Wightman et al. 2021, "ResNet strikes back", https://arxiv.org/abs/2110.00476,
as timm's timm/loss/binary_cross_entropy.py (https://github.com/huggingface/pytorch-image-models).
Deviations: entries can be unknown; neither label smoothing nor a threshold that makes mixed targets hard.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.losses import class_weights as weights
from fovea.losses.class_weights import Counts, Weights


def binary_cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None
) -> Tensor:
    """Mean over the known entries of -w_k (v_k t log p + (1 - t) log(1 - p)), in nats; p = sigmoid(logit), float32.

    An unknown entry counts neither in the mean nor in the gradient; where nothing is known both are 0. With
    several devices or accumulated batches the mean is each batch's own. As torch has it, the mean is divided by the
    number of known entries, not by their weights.

    Args:
        logits: (B, K) of any float type.
        target: (B, K) in [0, 1], -1 where unknown; or (B,) int64 class indices, taken as one-hot rows.
        weight: w, (K,) >= 0; None is 1.
        pos_weight: v, (K,) >= 0; None is 1.
    """
    logits = logits.float()  # half precision cannot hold the logarithm of a probability near 0
    if target.ndim == 1:
        target = F.one_hot(target, logits.shape[1])  # (B,) -> (B, K)
    known = target != -1  # (B, K)
    each = F.binary_cross_entropy_with_logits(
        logits, target.to(logits.dtype), weight, reduction="none", pos_weight=pos_weight
    )  # (B, K)
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


class BinaryCrossEntropy(nn.Module):
    """`binary_cross_entropy` as a loss. The weights are in no checkpoint: they follow from the config."""

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        pos_weight: Weights = None,
        class_weights: Weights = None,
        class_names: Sequence[str] | None = None,
        class_counts: Counts | None = None,
    ) -> None:
        """Raises ValueError where the weights don't suit the classes."""
        super().__init__()
        by_class = weights.class_weights(class_weights, class_names, class_counts)
        of_present = weights.positive_weights(pos_weight, class_names, class_counts)
        self.register_buffer("weight", by_class, persistent=False)
        self.register_buffer("pos_weight", of_present, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """A scalar; see `binary_cross_entropy`."""
        return binary_cross_entropy(logits, target, self.weight, self.pos_weight)
