"""The convolutional networks of airbench94, 95 and 96, made to learn CIFAR-10 in few steps.

Source: Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", https://arxiv.org/abs/2404.00498, and
    https://github.com/KellerJordan/cifar10-airbench
Deviations: the last pooling covers the whole map, which is the same for images of 32 pixels; BatchNorm's epsilon is
    torch's 1e-5 instead of 1e-12. Its momentum is 0.4 for all three, as in airbench94; airbench96_faster.py has torch's
    0.1.
The weights of `whiten` are to be those of the whitening transform: callbacks=[default,whitening]. Without it they are
random and trained.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGE_CHANNELS = 3
WHITENING_KERNEL = 2
BATCH_NORM_MOMENTUM = 0.4  # short trainings need running statistics that follow quickly
FEATURE_SCALE = 1 / 9  # the source scales the logits, which is the same for a linear classifier


class Group(nn.Module):
    """Two or three 3x3 convolutions with BatchNorm and GELU; the first one's output is halved by max pooling.

    A third convolution's output is added to the first one's. A convolution starts with identity filters for its first
    channels, so that it passes its input on.
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int) -> None:
        super().__init__()
        self.conv1 = _identity_convolution(in_channels, out_channels)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = _batch_norm(out_channels)
        self.conv2 = _identity_convolution(out_channels, out_channels)
        self.norm2 = _batch_norm(out_channels)
        self.depth = depth
        if depth == 3:
            self.conv3 = _identity_convolution(out_channels, out_channels)
            self.norm3 = _batch_norm(out_channels)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / 2, W / 2), rounded down."""
        first = self.activation(self.norm1(self.pool(self.conv1(x))))
        x = self.activation(self.norm2(self.conv2(first)))
        if self.depth == 3:
            x = self.activation(self.norm3(self.conv3(x)) + first)
        return x


class Airbench(nn.Module):
    """(B, 3, H, W) -> (B, num_classes) logits, for H and W of at least 9 pixels.

    Args:
        num_classes: K.
        widths: channels of each of the three groups: 64, 256, 256 in airbench94; 128, 384, 384 in 95; 128, 384, 512
            in 96.
        depth: convolutions of a group: 2; 3 in airbench96.

    Raises:
        ValueError: the depth is another one, or there are not three widths.
    """

    def __init__(self, num_classes: int, widths: Sequence[int] = (64, 256, 256), depth: int = 2) -> None:
        super().__init__()
        if depth not in (2, 3) or len(widths) != 3:
            raise ValueError(f"model.depth={depth} must be 2 or 3, and model.widths={list(widths)} three numbers")
        whitened = 2 * IMAGE_CHANNELS * WHITENING_KERNEL**2  # each filter and its negative
        self.whiten = nn.Conv2d(IMAGE_CHANNELS, whitened, WHITENING_KERNEL)
        self.whiten.bias = nn.Parameter(torch.zeros(whitened))
        self.activation = nn.GELU()
        pairs = zip((whitened, *widths), widths, strict=False)
        self.groups = nn.Sequential(*(Group(inputs, outputs, depth) for inputs, outputs in pairs))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(widths[-1], num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        x = self.activation(self.whiten(x))  # (B, 24, H - 1, W - 1)
        x = self.pool(self.groups(x)).flatten(1)  # (B, widths[-1])
        return self.head(x * FEATURE_SCALE)  # (B, K)


def _identity_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:in_channels])
    return conv


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a BatchNorm whose scale stays 1; only its shift is trained."""
    norm = nn.BatchNorm2d(channels, momentum=BATCH_NORM_MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm
