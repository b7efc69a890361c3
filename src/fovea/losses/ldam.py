"""Label-distribution-aware margin loss (LDAM) for long-tailed labels: rarer classes get larger margins.

Source: Cao et al. 2019, https://arxiv.org/abs/1906.07413, and the authors' code
https://github.com/kaidic/LDAM-DRW (losses.py).
Deviations: the classifier scales the cosines, so that probabilities are the softmax of its logits; a class without a
training image counts as having one, so that its margin is finite.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fovea.losses.class_weights import Counts
from fovea.losses.cross_entropy import CrossEntropy
from fovea.losses.training_counts import present_counts


def ldam_margins(counts: Sequence[int], largest: float) -> Tensor:
    """Return c / n_k^(1/4), (K,) float32, with c so that the largest margin is `largest`.

    Args:
        counts: n_k, (K,), the training images of each class; 0 counts as 1.
        largest: the margin of the rarest class, >= 0.
    """
    margins = torch.tensor(counts, dtype=torch.float64).clamp(min=1) ** -0.25  # (K,)
    return (largest * margins / margins.max()).float()


class LDAM(CrossEntropy):
    """-log softmax(logits - scale margin_y of the label's class y)_y of an image, in nats, averaged as cross-entropy.

    The logits are scale times cosines, from a classifier with `cosine_scale`. On logits without a limit, the network
    would make them larger until margins make no difference.
    """

    margins: Tensor

    def __init__(
        self, margin: float = 0.5, scale: float | None = None, class_counts: Counts | None = None, **options: Any
    ) -> None:
        """Args:
        margin: the rarest class's, >= 0, a difference of cosines.
        scale: of the cosines, > 0.
        class_counts: of the training labels.
        options: those of CrossEntropy.

        Raises:
            ValueError: a number is outside its range or missing, or there are no counts of training labels.
        """
        if scale is None:
            raise ValueError(
                "loss: LDAM has margins between cosines, so the network's last layer must give cosines:\n"
                "type cosine_scale=30, or imbalance=ldam_drw, which sets it"
            )
        if margin < 0 or scale <= 0:
            raise ValueError(f"loss.margin={margin} loss.scale={scale}: a margin is 0 or more, a scale is above 0")
        super().__init__(class_counts=class_counts, **options)
        present = present_counts(class_counts, "LDAM", options.get("class_names"))
        self.register_buffer("margins", scale * ldam_margins(present, margin), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (B, K) and class indices (B,) int64 -> a scalar.

        Raises:
            ValueError: the labels are mixed, (B, K): a margin belongs to one class.
        """
        if target.ndim != 1:
            raise ValueError("LDAM has a margin for the one class of an image, so its labels can't be mixed")
        margins = F.one_hot(target, logits.shape[1]) * self.margins  # (B, K), 0 except for the label
        return super().forward(logits.float() - margins, target)
