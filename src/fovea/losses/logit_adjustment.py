"""Logit adjustment for long-tailed labels: cross-entropy of logits that are shifted by the classes' log frequencies.

Source: Menon et al. 2021, https://arxiv.org/abs/2007.07314, eq. 10 (the loss) and eq. 9 (after training). With tau=1
the loss is the balanced softmax of Ren et al. 2020, https://arxiv.org/abs/2007.10740.
Deviation: a class without a training image counts as having one, so that its logarithm is finite.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fovea.losses.class_weights import Counts
from fovea.losses.cross_entropy import CrossEntropy
from fovea.losses.training_counts import present_counts


def log_prior(counts: Sequence[int]) -> Tensor:
    """Return log(n_k / n), (K,) float32, in nats, with n the sum of n_k.

    Args:
        counts: n_k, (K,), the training images of each class; 0 counts as 1.
    """
    images = torch.tensor(counts, dtype=torch.float64).clamp(min=1)  # (K,)
    return (images / images.sum()).log().float()


def logit_shift(counts: Sequence[int], tau: float) -> Tensor:
    """Return -tau log_prior, (K,), to add to the logits of a network that was trained with plain cross-entropy.

    With tau=1 the softmax of the sum has the probabilities of classes that are equally frequent.
    """
    return -tau * log_prior(counts)


class LogitAdjustment(CrossEntropy):
    """-log softmax(logits + tau log_prior)_y of an image, in nats, averaged as cross-entropy.

    The shift is in the loss alone: probabilities are the softmax of the logits as they are, and are then those of
    classes that are equally frequent (for tau=1).
    """

    log_prior: Tensor

    def __init__(self, tau: float = 1.0, class_counts: Counts | None = None, **options: Any) -> None:
        """`tau` is at least 0 (cross-entropy); `options` are those of CrossEntropy.

        Raises:
            ValueError: tau is negative, or there are no counts of training labels.
        """
        if tau < 0:
            raise ValueError(f"loss.tau={tau}: give 0 (cross-entropy) or more; 1 is the balanced softmax")
        super().__init__(class_counts=class_counts, **options)
        self.tau = tau
        present = present_counts(class_counts, "LogitAdjustment", options.get("class_names"))
        self.register_buffer("log_prior", log_prior(present), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (B, K), and (B,) int64 class indices or mixed labels (B, K) -> a scalar."""
        return super().forward(logits.float() + self.tau * self.log_prior, target)
