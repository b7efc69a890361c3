"""How many images a class has, to read a per-class result by."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Support(Metric):
    """(K,) int64: the images known to have each class."""

    full_state_update = False
    images: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("images", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """target: (B,) class indices, or (B, K) with 1 present, 0 absent, -1 unknown."""
        if target.ndim == 1:
            target = torch.nn.functional.one_hot(target, self.num_classes)  # (B,) -> (B, K)
        self.images += (target == 1).sum(0)

    def compute(self) -> Tensor:
        """(K,) int64."""
        return self.images
