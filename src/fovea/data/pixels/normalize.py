"""Normalizes batches of uint8 images on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(B, C, H, W) uint8 -> (x / 255 - mean) / std, float32, channels-last in memory.

    Mean and std are not saved in checkpoints, because they come from the config.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """`mean` and `std` are per channel, for pixels in [0, 1]."""
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(-1, 1, 1), persistent=False)  # (C, 1, 1)
        self.register_buffer("std", 255 * torch.tensor(std).view(-1, 1, 1), persistent=False)

    mean: Tensor
    std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std
