"""The loss of an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """The mean over everything known, of batches' means; 0 where nothing is known, as the losses have it.

    A loss that is not a number makes it one too. TorchMetrics 1.9's MeanMetric leaves such batches out or, told not to,
    leaves the weights out; and it looks at each loss, which makes the program wait for the GPU.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    known: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("known", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, mean: Tensor, known: Tensor) -> None:
        """mean: a batch's, scalar; known: the integer number of targets that it is the mean of."""
        self.total += mean.float() * known
        self.known += known

    def compute(self) -> Tensor:
        """A scalar."""
        return self.total / self.known.clamp(min=1)
