"""SE-ResNet and SE-ResNeXt: residual networks with squeeze-and-excitation (channel attention) in each block.

Papers:
    Squeeze-and-Excitation Networks (Hu et al. 2018), https://arxiv.org/abs/1709.01507
    Deep Residual Learning for Image Recognition (He et al. 2016), https://arxiv.org/abs/1512.03385
    Aggregated Residual Transformations (ResNeXt, Xie et al. 2017), https://arxiv.org/abs/1611.05431
Lineage: module names and logits are those of timm's `seresnet*` and `seresnext*`, so its published weights
    load as they are (timm/models/resnet.py, https://github.com/huggingface/pytorch-image-models).
Deviations from Hu et al., all shared with timm:
    - the stride of a bottleneck sits in its 3x3 convolution, not in its first 1x1 ("ResNet v1.5");
    - the squeezed width, channels / 16, is rounded to a multiple of 8 (64 channels squeeze to 8, not 4);
    - each block starts as the identity: its last BatchNorm's scale is 0 (https://arxiv.org/abs/1706.02677, 5.1).
`stem="small"` (3x3, stride 1, no pooling) is He et al.'s stem for CIFAR, section 4.2.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
REDUCTION = 16  # Hu et al., section 6.1

Block = Callable[[int, int, int], nn.Module]  # (in_channels, out_channels, stride)


class SqueezeExcite(nn.Module):
    """x * sigmoid(fc2(relu(fc1(mean of x over its pixels)))): one weight in (0, 1) per image and channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, (channels // REDUCTION + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(channels, squeezed, kernel_size=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(squeezed, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        weight = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        weight = self.fc2(self.relu(self.fc1(weight))).sigmoid()
        return x * weight


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the block of depths 18 and 34."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, squeeze_excite: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.se = SqueezeExcite(out_channels) if squeeze_excite else nn.Identity()
        self.downsample = _shortcut(in_channels, out_channels, stride)
        self.relu = nn.ReLU(inplace=True)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        shortcut = self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.se(self.bn2(self.conv2(x)))
        return self.relu(x + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, the 3x3 with fewer channels; the block of depths 50, 101 and 152.

    The 3x3 convolution has `cardinality` groups of (out_channels / 4) * base_width / 64 channels each: ResNet has one
    group with base_width 64, ResNeXt 32 groups with base_width 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        squeeze_excite: bool = True,
        cardinality: int = 1,
        base_width: int = 64,
    ) -> None:
        super().__init__()
        inner = out_channels // 4 * base_width // 64 * cardinality
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.se = SqueezeExcite(out_channels) if squeeze_excite else nn.Identity()
        self.downsample = _shortcut(in_channels, out_channels, stride)
        self.relu = nn.ReLU(inplace=True)
        nn.init.zeros_(self.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        shortcut = self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # (B, inner, H, W)
        x = self.relu(self.bn2(self.conv2(x)))  # (B, inner, H / stride, W / stride)
        x = self.se(self.bn3(self.conv3(x)))
        return self.relu(x + shortcut)


class SEResNet(nn.Module):
    """(B, 3, H, W) -> (B, num_classes) logits, for any H and W.

    Args:
        num_classes: K.
        depth: 18, 34, 50, 101 or 152.
        stem: "standard" divides H and W by 4 before the first block, "small" by 1. The blocks divide them by 8.
        width: channels of the first stage; each of the next three doubles them; 64 in the paper.
        cardinality: groups of each bottleneck's 3x3 convolution; ResNeXt has 32 or 64.
        base_width: channels of each group in the first stage if `width` is 64; ResNeXt "32x4d" has cardinality 32 and
            base_width 4.
        squeeze_excite: False gives ResNet and ResNeXt, with the parameter names of torchvision's.

    Raises:
        ValueError: the depth or stem doesn't exist, groups are set for a depth without bottlenecks, or a group would
            have no channel.
    """

    def __init__(
        self,
        num_classes: int,
        depth: int = 18,
        stem: str = "standard",
        width: int = 64,
        cardinality: int = 1,
        base_width: int = 64,
        squeeze_excite: bool = True,
    ) -> None:
        super().__init__()
        block = _block(depth, width, cardinality, base_width, squeeze_excite)
        blocks = BLOCKS[depth]
        out = width * (1 if depth < 50 else 4)
        self.conv1, self.maxpool = _stem(stem, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(block, width, out, blocks[0], stride=1)
        self.layer2 = _stage(block, out, out * 2, blocks[1], stride=2)
        self.layer3 = _stage(block, out * 2, out * 4, blocks[2], stride=2)
        self.layer4 = _stage(block, out * 4, out * 8, blocks[3], stride=2)
        self.fc = nn.Linear(out * 8, num_classes)
        self._initialize()

    def _initialize(self) -> None:
        """Initialise convolutions as He et al. 2015 (fan-out), like torchvision and timm."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (B, width, H / 4, W / 4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, C, H / 32, W / 32)
        x = x.mean((2, 3))  # (B, C)
        return self.fc(x)  # (B, K)


def _stage(block: Block, in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    others = [block(out_channels, out_channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(block(in_channels, out_channels, stride), *others)


def _block(depth: int, width: int, cardinality: int, base_width: int, squeeze_excite: bool) -> Block:
    if depth not in BLOCKS:
        raise ValueError(f"model.depth={depth}: SE-ResNet exists with depths {', '.join(map(str, BLOCKS))}")
    if depth < 50:
        if (cardinality, base_width) != (1, 64):
            raise ValueError(
                f"model.cardinality={cardinality} base_width={base_width}: depth {depth} has no bottleneck "
                "blocks, so these must be 1 and 64; or choose model.depth=50, 101 or 152"
            )
        return partial(BasicBlock, squeeze_excite=squeeze_excite)
    if cardinality < 1 or width * base_width < 64:
        raise ValueError(
            f"model.cardinality={cardinality} base_width={base_width} width={width}: a group would have no channel; "
            "cardinality must be 1 or more and width * base_width 64 or more"
        )
    return partial(Bottleneck, squeeze_excite=squeeze_excite, cardinality=cardinality, base_width=base_width)


def _stem(stem: str, width: int) -> tuple[nn.Module, nn.Module]:
    if stem == "standard":
        return nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.MaxPool2d(3, stride=2, padding=1)
    if stem == "small":
        return nn.Conv2d(3, width, 3, padding=1, bias=False), nn.Identity()
    raise ValueError(f"model.stem={stem}: must be standard or small")


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the identity if input and output shapes are equal, else a 1x1 convolution (He et al., option B)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
