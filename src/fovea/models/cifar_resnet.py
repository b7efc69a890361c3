"""The residual networks of He et al. for CIFAR-10: ResNet-20, 32, 44, 56 and 110.

Paper: Deep Residual Learning for Image Recognition (He et al. 2016), https://arxiv.org/abs/1512.03385, section 4.2
Lineage: parameter counts, shortcuts and initialisation are those of https://github.com/akamaster/pytorch_resnet_cifar10,
    whose ResNet-32 is the network of Cao et al. 2019 (LDAM-DRW) and of others who compare on long-tailed CIFAR-10.
Deviations from the paper, shared with it: the padded shortcut has half of its new channels on each side.
"""

from torch import Tensor, nn
from torch.nn.functional import pad, relu


class Shortcut(nn.Module):
    """The input with a stride and zeros as new channels, without parameters (He et al., option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new = stride, out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))


class Block(nn.Module):
    """Two 3x3 convolutions, each with BatchNorm, added to a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else Shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        inner = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """(B, 3, H, W) -> (B, num_classes) logits, for any H and W; made for 32x32.

    Args:
        num_classes: K.
        depth: 6 n + 2 for n blocks in each of the three stages: 20, 32, 44, 56, 110 in the paper.
        width: channels of the first stage, which the next two double; 16 in the paper.

    Raises:
        ValueError: the depth is not 6 n + 2.
    """

    def __init__(self, num_classes: int, depth: int = 32, width: int = 16) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"model.depth={depth}: it must be 6 n + 2 for n blocks in a stage, such as 20, 32 or 44")
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, stride=1)
        self.layer2 = _stage(width, width * 2, blocks, stride=2)
        self.layer3 = _stage(width * 2, width * 4, blocks, stride=2)
        self.fc = nn.Linear(width * 4, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        x = relu(self.bn1(self.conv1(x)))  # (B, width, H, W)
        x = self.layer3(self.layer2(self.layer1(x)))  # (B, 4 * width, H / 4, W / 4)
        x = x.mean((2, 3))  # (B, 4 * width)
        return self.fc(x)  # (B, K)


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    others = [Block(out_channels, out_channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(in_channels, out_channels, stride), *others)
