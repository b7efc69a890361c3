"""Binary cross-entropy that counts only what is known.

Source for single-label data: Wightman et al. 2021, "ResNet strikes back", https://arxiv.org/abs/2110.00476,
as timm's timm/loss/binary_cross_entropy.py (https://github.com/huggingface/pytorch-image-models).
Deviations: entries can be unknown; neither label smoothing nor a threshold that makes mixed targets hard.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the known entries of -(t log p + (1 - t) log(1 - p)), in nats; p = sigmoid(logit), float32.

    An unknown entry counts neither in the mean nor in the gradient; where nothing is known both are 0. With
    several devices or accumulated batches the mean is each batch's own.

    Args:
        logits: (B, K) of any float type.
        target: (B, K) in [0, 1], -1 where unknown; or (B,) int64 class indices, taken as one-hot rows.
    """
    logits = logits.float()  # half precision cannot hold the logarithm of a probability near 0
    if target.ndim == 1:
        target = F.one_hot(target, logits.shape[1])  # (B,) -> (B, K)
    known = target != -1  # (B, K)
    each = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")  # (B, K)
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


class BinaryCrossEntropy(nn.Module):
    """`binary_cross_entropy` as a loss."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """A scalar; see `binary_cross_entropy`."""
        return binary_cross_entropy(logits, target)
