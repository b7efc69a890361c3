"""Asymmetric loss (ASL), which gives less weight to absent labels than to present ones, for several labels an image.

Source: Ridnik et al. 2021, https://arxiv.org/abs/2009.14119, and the authors' code
https://github.com/Alibaba-MIIL/ASL (src/loss_functions/losses.py).
Deviations: the mean over the known labels instead of the sum; logarithms of present labels are not cut off at 1e-8, so
that a very wrong prediction keeps its gradient.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.losses import class_weights as weights
from fovea.losses.class_weights import Counts, Weights
from fovea.losses.focal import LEAST, checked_gamma
from fovea.losses.known_labels import known_mean, label_rows


def asymmetric_loss(
    logits: Tensor,
    target: Tensor,
    gamma_neg: float = 4.0,
    gamma_pos: float = 1.0,
    clip: float = 0.05,
    weight: Tensor | None = None,
    sum_classes: bool = False,
    detach_focus: bool = False,
) -> Tensor:
    """Mean over the known entries of -w_k f (t log p + (1 - t) log(1 - p_m)), in nats, float32.

    p = sigmoid, p_m = max(p - clip, 0), and f = (1 - t p - (1 - t)(1 - p_m))^(gamma_pos t + gamma_neg (1 - t)). So a
    present label has (1 - p)^gamma_pos log p, and an absent one p_m^gamma_neg log(1 - p_m).

    Args:
        logits: (B, K) of any float type.
        target: (B, K) in [0, 1], -1 where unknown; or (B,) int64 class indices, used as one-hot rows.
        gamma_neg: focusing strength of absent labels, >= 0.
        gamma_pos: focusing strength of present labels, >= 0.
        clip: in [0, 1); absent labels with a probability below it have no loss.
        weight: w, (K,) >= 0; None means 1.
        sum_classes: sum over the classes instead of their mean; see `known_mean`.
        detach_focus: f counts as constant in the gradient.
    """
    logits, target = logits.float(), label_rows(target, logits.shape[1])  # (B, K)
    known, present = target != -1, target.clamp(min=0).to(torch.float32)
    absent, p = 1 - present, logits.sigmoid()
    log_not_p = (1 - p + clip).clamp(max=1).log() if clip else F.logsigmoid(-logits)
    focus = (present * (1 - p) + absent * (p - clip).clamp(min=0)).clamp(min=LEAST)
    focus = focus ** (gamma_pos * present + gamma_neg * absent)
    focus = focus.detach() if detach_focus else focus
    losses = -focus * (present * F.logsigmoid(logits) + absent * log_not_p)
    return known_mean(losses if weight is None else weight * losses, known, sum_classes)


class AsymmetricLoss(nn.Module):
    """`asymmetric_loss` as a module. The weights are not saved in checkpoints, as the config gives them."""

    weight: Tensor | None

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        class_weights: Weights = None,
        sum_classes: bool = False,
        detach_focus: bool = False,
        class_names: Sequence[str] | None = None,
        class_counts: Counts | None = None,
    ) -> None:
        """Raise ValueError if a gamma is negative, clip is not in [0, 1), or the weights don't fit the classes."""
        super().__init__()
        if not 0 <= clip < 1:
            raise ValueError(f"loss.clip={clip}: give a probability from 0 to less than 1; 0 is none")
        weight = weights.class_weights(class_weights, class_names, class_counts)
        self.register_buffer("weight", weight, persistent=False)
        self.gamma_neg, self.gamma_pos = checked_gamma("gamma_neg", gamma_neg), checked_gamma("gamma_pos", gamma_pos)
        self.clip, self.sum_classes, self.detach_focus = clip, sum_classes, detach_focus

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return a scalar; see `asymmetric_loss`."""
        gammas = self.gamma_neg, self.gamma_pos
        return asymmetric_loss(logits, target, *gammas, self.clip, self.weight, self.sum_classes, self.detach_focus)
