"""MobileNetV2: inverted residuals with linear bottlenecks.

Paper: MobileNetV2 (Sandler et al. 2018), https://arxiv.org/abs/1801.04381, table 2
Lineage: module names, initialisation and logits are those of torchvision's `mobilenet_v2`, so its published
    weights load as they are (torchvision/models/mobilenetv2.py, https://github.com/pytorch/vision).
Deviations from the paper, shared with torchvision: dropout of 0.2 before the classifier; channel counts are
    rounded to multiples of 8; the last convolution keeps its 1280 channels when the width is below 1.
`stem="small"` gives the first convolution and the 24-channel stage stride 1, the usual practice for CIFAR
    (models/mobilenetv2.py of https://github.com/kuangliu/pytorch-cifar): the network divides H and W by 8, not 32.
"""

from torch import Tensor, nn

STAGES = (  # expansion, channels, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class ConvBNReLU6(nn.Sequential):
    """Convolution without bias, BatchNorm, and ReLU6 = min(max(x, 0), 6)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, 3x3 depthwise, 1x1 back down without activation."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.conv = nn.Sequential(
            *([ConvBNReLU6(in_channels, hidden, 1)] if expansion > 1 else []),
            ConvBNReLU6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H / stride, W / stride)."""
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """(B, 3, H, W) -> (B, num_classes) logits, for any H and W.

    Args:
        num_classes: K.
        stem: "standard" or "small": the whole network divides H and W by 32 or by 8.
        width_mult: factor on every channel count, > 0; the paper uses 0.35 to 1.4.
        dropout: probability of zeroing a feature before the classifier, in [0, 1).

    Raises:
        ValueError: `stem` is neither of the two.
    """

    def __init__(self, num_classes: int, stem: str = "standard", width_mult: float = 1.0, dropout: float = 0.2) -> None:
        super().__init__()
        if stem not in ("standard", "small"):
            raise ValueError(f"model.stem={stem}: must be standard or small")
        channels = _multiple_of_8(32 * width_mult)
        layers: list[nn.Module] = [ConvBNReLU6(3, channels, 3, stride=1 if stem == "small" else 2)]
        for expansion, base_channels, blocks, stride in STAGES:
            out_channels = _multiple_of_8(base_channels * width_mult)
            for i in range(blocks):
                keep_size = i > 0 or (stem == "small" and base_channels == 24)
                layers.append(InvertedResidual(channels, out_channels, 1 if keep_size else stride, expansion))
                channels = out_channels
        last_channels = _multiple_of_8(1280 * max(1.0, width_mult))
        self.features = nn.Sequential(*layers, ConvBNReLU6(channels, last_channels, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last_channels, num_classes))
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        x = self.features(x)  # (B, C, H / 32, W / 32)
        x = x.mean((2, 3))  # (B, C)
        return self.classifier(x)  # (B, K)


def _multiple_of_8(channels: float) -> int:
    """Round to the nearest multiple of 8, to at least 8, and never more than a tenth down."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
