"""Mixes each image of a training batch with another one, and their labels in the same proportion, on the device.

The other image of image b is image B - 1 - b. Sources: Mixup, Zhang et al. 2018, https://arxiv.org/abs/1710.09412;
CutMix, Yun et al. 2019, https://arxiv.org/abs/1905.04899. The other image, the choice between both methods and the
correction of the share for a rectangle that reaches across an edge are those of timm.data.Mixup in its mode "batch".
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F


class Box(NamedTuple):
    """Rows `top` to `bottom` - 1 and columns `left` to `right` - 1 of an image."""

    top: int
    bottom: int
    left: int
    right: int


def mixup(images: Tensor, target: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return share * x + (1 - share) * (x of the other image), of images and of labels.

    Args:
        images: (B, C, H, W) float.
        target: (B, K) float; nan where unknown, which makes the mixed label nan too.
        share: of the image itself, in [0, 1].
    """
    return images.lerp(images.flip(0), 1 - share), _mixed_labels(target, share)


def cutmix(images: Tensor, target: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Copy `box` from the other image; labels are weighted by the areas.

    Args:
        images: (B, C, H, W).
        target: as for `mixup`.
        box: inside of the images; it may be empty.
    """
    height, width = images.shape[-2:]
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    mixed = images.clone()
    mixed[..., rows, columns] = images.flip(0)[..., rows, columns]
    area = (box.bottom - box.top) * (box.right - box.left)
    return mixed, _mixed_labels(target, 1 - area / (height * width))


def _mixed_labels(target: Tensor, share: float) -> Tensor:
    return target if share == 1 else target.lerp(target.flip(0), 1 - share)  # 0 * nan would make a label unknown


def draw_share(alpha: float, generator: Generator | None = None) -> float:
    """Draw from Beta(alpha, alpha), alpha > 0; `generator` None is torch's global one of the CPU."""
    seed = int(torch.randint(2**62, (), generator=generator))  # torch.distributions.Beta takes no generator
    return np.random.default_rng(seed).beta(alpha, alpha)


def draw_box(height: int, width: int, share: float, generator: Generator | None = None) -> Box:
    """Draw a rectangle of (1 - share) of the area and of the image's aspect ratio around a uniform center.

    What is outside of the image is cut off, so its area may be smaller.
    """
    side = (1 - share) ** 0.5
    top, bottom = _interval(int(height * side), height, generator)
    left, right = _interval(int(width * side), width, generator)
    return Box(top, bottom, left, right)


def _interval(length: int, whole: int, generator: Generator | None) -> tuple[int, int]:
    center = int(torch.randint(whole, (), generator=generator))
    return max(center - length // 2, 0), min(center + (length + 1) // 2, whole)


class Mixup:
    """Mixup or CutMix of a whole batch with one share, drawn from torch's global generator of the CPU.

    The labels returned are always (B, K) float, mixed or not, so that a loss treats all steps alike.
    """

    def __init__(
        self,
        num_classes: int,
        mixup_alpha: float = 0.2,
        cutmix_alpha: float = 1.0,
        probability: float = 1.0,
        switch_probability: float = 0.5,
    ) -> None:
        """Args:
        num_classes: K.
        mixup_alpha, cutmix_alpha: the share is drawn from Beta(alpha, alpha); 0: without this method.
        probability: of mixing a batch.
        switch_probability: of CutMix in a batch that is mixed, if there are both methods.

        Raises:
            ValueError: a number is out of its range, or both alphas are 0.
        """
        if min(mixup_alpha, cutmix_alpha) < 0 or max(mixup_alpha, cutmix_alpha) == 0:
            raise ValueError(
                f"mixing: mixup_alpha={mixup_alpha} and cutmix_alpha={cutmix_alpha} must not be negative, and one must "
                "be above 0: for no mixing, type mixing=none"
            )
        if not 0 <= probability <= 1 or not 0 <= switch_probability <= 1:
            raise ValueError(f"mixing: {probability=} and {switch_probability=} must be in [0, 1]")
        self.num_classes, self.mixup_alpha, self.cutmix_alpha = num_classes, mixup_alpha, cutmix_alpha
        self.probability = probability
        self.cutmix_share = switch_probability if mixup_alpha and cutmix_alpha else float(cutmix_alpha > 0)

    def __call__(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, C, H, W) float; target (B,) int64, or (B, K) float with nan where unknown."""
        target = F.one_hot(target, self.num_classes).to(images.dtype) if target.ndim == 1 else target
        mixed, cut = torch.rand(2).tolist()
        if mixed >= self.probability:
            return images, target
        if cut >= self.cutmix_share:
            return mixup(images, target, draw_share(self.mixup_alpha))
        height, width = images.shape[-2:]
        return cutmix(images, target, draw_box(height, width, draw_share(self.cutmix_alpha)))
