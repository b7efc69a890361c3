"""airbench94's convolutional network, made to learn CIFAR-10 in few steps.

Source: Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", https://arxiv.org/abs/2404.00498, and
    airbench94.py of https://github.com/KellerJordan/cifar10-airbench
Deviations: the last pooling covers the whole map, which is the same for images of 32 pixels; BatchNorm's epsilon is
    torch's 1e-5 instead of 1e-12.
The weights of `whiten` are to be those of the whitening transform: callbacks=[default,whitening]. Without it they are
random and trained.
"""

from torch import Tensor, nn

IMAGE_CHANNELS = 3
WHITENING_KERNEL = 2
BATCH_NORM_MOMENTUM = 0.4  # short trainings need running statistics that follow quickly
LOGIT_SCALE = 1 / 9


class Group(nn.Module):
    """Two 3x3 convolutions with BatchNorm and GELU; the first one's output is halved by max pooling.

    A convolution starts with identity filters for its first channels, so that it passes its input on.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _identity_convolution(in_channels, out_channels)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = _batch_norm(out_channels)
        self.conv2 = _identity_convolution(out_channels, out_channels)
        self.norm2 = _batch_norm(out_channels)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / 2, W / 2), rounded down."""
        x = self.activation(self.norm1(self.pool(self.conv1(x))))
        return self.activation(self.norm2(self.conv2(x)))


class Airbench(nn.Module):
    """(B, 3, H, W) -> (B, num_classes) logits, for H and W of at least 9 pixels.

    Args:
        num_classes: K.
        width: channels of the first group; the other two have four times as many. 64 is airbench94's.
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        whitened = 2 * IMAGE_CHANNELS * WHITENING_KERNEL**2  # each filter and its negative
        self.whiten = nn.Conv2d(IMAGE_CHANNELS, whitened, WHITENING_KERNEL)
        self.activation = nn.GELU()
        self.groups = nn.Sequential(Group(whitened, width), Group(width, 4 * width), Group(4 * width, 4 * width))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(4 * width, num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        x = self.activation(self.whiten(x))  # (B, 24, H - 1, W - 1)
        x = self.pool(self.groups(x)).flatten(1)  # (B, 4 * width)
        return self.head(x) * LOGIT_SCALE  # (B, K)


def _identity_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:in_channels])
    return conv


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a BatchNorm whose scale stays 1; only its shift is trained."""
    norm = nn.BatchNorm2d(channels, momentum=BATCH_NORM_MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm
