"""Counts the images of each class, which shows how reliable a per-class result is."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Support(Metric):
    """The number of images known to have each class, (K,) int64."""

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
        """Return (K,) int64."""
        return self.images
