"""Binary cross-entropy that ignores unknown labels.

Source for single-label data: Wightman et al. 2021, "ResNet strikes back", https://arxiv.org/abs/2110.00476,
as timm's timm/loss/binary_cross_entropy.py (https://github.com/huggingface/pytorch-image-models).
Deviations: labels can be unknown; no label smoothing, and no threshold that makes mixed targets 0 or 1.
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

    Unknown entries count neither in the mean nor in the gradient; both are 0 if nothing is known. With several devices
    or accumulated batches, each batch has its own mean. As in torch, the sum is divided by the number of known entries,
    not by their weights.

    Args:
        logits: (B, K) of any float type.
        target: (B, K) in [0, 1], -1 where unknown; or (B,) int64 class indices, used as one-hot rows.
        weight: w, (K,) >= 0; None means 1.
        pos_weight: v, (K,) >= 0; None means 1.
    """
    logits = logits.float()  # half precision cannot hold the logarithm of a probability near 0
    if target.ndim == 1:
        target = F.one_hot(target, logits.shape[1])  # (B,) -> (B, K)
    known = target != -1  # (B, K)
    losses = F.binary_cross_entropy_with_logits(
        logits, target.to(logits.dtype), weight, reduction="none", pos_weight=pos_weight
    )  # (B, K)
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


class BinaryCrossEntropy(nn.Module):
    """`binary_cross_entropy` as a module. The weights are not saved in checkpoints, as the config gives them."""

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        pos_weight: Weights = None,
        class_weights: Weights = None,
        class_names: Sequence[str] | None = None,
        class_counts: Counts | None = None,
    ) -> None:
        """Raise ValueError if the weights don't fit the classes; see `class_weights`."""
        super().__init__()
        weight = weights.class_weights(class_weights, class_names, class_counts)
        positive = weights.positive_weights(pos_weight, class_names, class_counts)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("pos_weight", positive, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return a scalar; see `binary_cross_entropy`."""
        return binary_cross_entropy(logits, target, self.weight, self.pos_weight)
