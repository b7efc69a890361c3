"""The loss of an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """The weighted mean of batches' means: the mean over everything known; nan where nothing is known.

    A loss that is not a number makes it one too. TorchMetrics 1.9's MeanMetric leaves such batches out or, told not to,
    leaves the weights out; and it looks at each loss, which makes the program wait for the GPU.

    Weights are added up as whole numbers and fractions: float32 counts to 2^24 only, and MPS has no float64.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    known: Tensor
    fractions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("known", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("fractions", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, mean: Tensor, weight: Tensor) -> None:
        """mean: a batch's, scalar; weight: how many targets it is the mean of, or the sum of their weights."""
        whole = weight.long()
        self.total += mean.float() * weight
        self.known += whole
        self.fractions += weight - whole

    def compute(self) -> Tensor:
        """A scalar."""
        return self.total / (self.known + self.fractions)
