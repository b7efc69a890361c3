"""Average precision per class, and its mean, over the known labels.

The values are exact, so all (N, K) probabilities and targets are kept until the end of the split: five bytes per entry.
At the end each rank has those of all ranks.

TorchMetrics 1.9's MultilabelAveragePrecision returns -0.0 and a warning for a class without positives, counts it as 0
in the mean, and fails if a class or the whole split has no known label.
"""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from fovea.metrics.sorted_values import sorted_values


def average_precision(scores: Tensor, target: Tensor) -> Tensor:
    """Return the sum over thresholds n of (R_n - R_(n-1)) P_n, with one threshold for each distinct score; in [0, 1].

    R_n and P_n are the recall and precision of "score >= threshold n", as in scikit-learn's
    average_precision_score. The sum equals the mean, over the positives, of the precision at each positive's score.

    Args:
        scores: (N,) float, without nan.
        target: (N,) 1 present, 0 absent, -1 unknown; unknown entries are ignored.

    Returns:
        A scalar; nan if there is no positive.
    """
    scores = scores.float()
    known, positives = sorted_values(scores[target != -1]), sorted_values(scores[target == 1])
    predicted = len(known) - torch.searchsorted(known, positives)  # (P,) entries with at least each positive's score
    found = len(positives) - torch.searchsorted(positives, positives)  # (P,) positives among them
    return (found / predicted).mean()


class AveragePrecision(Metric):
    """Average precision of each class, (K,); nan for a class without a known positive."""

    full_state_update = False
    higher_is_better = True
    preds: list[Tensor]
    target: list[Tensor]

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.add_state("preds", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """preds: (B, K) float; target: (B, K) with 1 present, 0 absent, -1 unknown."""
        self.preds.append(preds.float())
        self.target.append(target.to(torch.int8))

    def compute(self) -> Tensor:
        """Return (K,) float32."""
        preds, target = dim_zero_cat(self.preds), dim_zero_cat(self.target)  # (N, K)
        return torch.stack([average_precision(preds[:, k], target[:, k]) for k in range(self.num_labels)])


class MeanAveragePrecision(AveragePrecision):
    """The mean of average precision over the classes that have a known positive; nan if none has.

    Attributes:
        defined: (K,) bool: the classes that the last mean included.
    """

    undefined_for = "without a known positive label"
    defined: Tensor | None = None

    def compute(self) -> Tensor:
        """Return a scalar."""
        values = super().compute()
        self.defined = ~values.isnan()
        return values.nanmean()
