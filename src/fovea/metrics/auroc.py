"""Area under the ROC curve per class, and its mean, over the known labels.

TorchMetrics 1.9's macro average counts a class without positives or without negatives as 0, and fails if a class has no
known label.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from fovea.metrics.sorted_values import sorted_values


def auroc(scores: Tensor, target: Tensor) -> Tensor:
    """Return the share of (positive, negative) pairs in which the positive has the higher score; a tie counts 1/2.

    Args:
        scores: (N,) float, without nan.
        target: (N,) 1 present, 0 absent, -1 unknown; unknown entries are ignored.

    Returns:
        A scalar in [0, 1]; nan if there is no positive or no negative.
    """
    positives, negatives = scores[target == 1], sorted_values(scores[target == 0])
    below = torch.searchsorted(negatives, positives)  # negatives with a lower score than each positive
    not_above = torch.searchsorted(negatives, positives, right=True)
    return (below + not_above).sum() / 2 / (len(positives) * len(negatives))


class AUROC(Metric):
    """AUROC of each class against the others, (K,); nan for a class without a known positive or a known negative."""

    full_state_update = False
    higher_is_better = True
    preds: list[Tensor]
    target: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("preds", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """preds: (B, K) float; target: (B,) class indices, or (B, K) with 1 present, 0 absent, -1 unknown."""
        self.preds.append(preds.float())
        self.target.append((one_hot(target, self.num_classes) if target.ndim == 1 else target).to(torch.int8))

    def compute(self) -> Tensor:
        """Return (K,) float32."""
        preds, target = dim_zero_cat(self.preds), dim_zero_cat(self.target)  # (N, K)
        return torch.stack([auroc(preds[:, k], target[:, k]) for k in range(self.num_classes)])


class MeanAUROC(AUROC):
    """The mean of AUROC over the classes that have a known positive and a known negative; nan if none has.

    Attributes:
        defined: (K,) bool: the classes that the last mean included.
    """

    undefined_for = "without a known positive or without a known negative label"
    defined: Tensor | None = None

    def compute(self) -> Tensor:
        """Return a scalar."""
        values = super().compute()
        self.defined = ~values.isnan()
        return values.nanmean()
