"""Random erasing: overwrites a rectangle of some images of a training batch, on the device.

Source: Zhong et al. 2020, https://arxiv.org/abs/1708.04896; the noise for each pixel is that of timm's RandomErasing.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

TRIES = 10  # rectangles that are drawn for an image until one fits
Fill = Literal["pixel", "mean"]


def erase(images: Tensor, boxes: Tensor, fill: Fill = "pixel", generator: Generator | None = None) -> Tensor:
    """Return the images with noise or zeros in one rectangle of each.

    Args:
        images: (B, C, H, W) float, normalised, so that 0 is the mean color.
        boxes: (B, 4) int64: top, left, height and width; an image with height 0 stays as it is.
        fill: "pixel": values from a normal distribution of mean 0 and variance 1; "mean": zeros.
        generator: of the noise, on the images' device; None: torch's global one.
    """
    erased = images.clone()
    for image, (top, left, height, width) in zip(erased, boxes.tolist(), strict=True):
        if height:
            inside = image[:, top : top + height, left : left + width]
            inside.copy_(_noise(inside, generator)) if fill == "pixel" else inside.zero_()
    return erased


def _noise(like: Tensor, generator: Generator | None) -> Tensor:
    """Return contiguous normal noise; the CPU draws it ten times as fast as in a part of a larger tensor."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)


def draw_boxes(
    count: int,
    size: tuple[int, int],
    probability: float,
    area: Sequence[float],
    ratio: Sequence[float],
    generator: Generator | None = None,
) -> Tensor:
    """Draw a rectangle for each of `count` images.

    Its share of the area is uniform in `area`, and the logarithm of its height / width is uniform between those of
    `ratio`. The first of ten rectangles that is smaller than the image in both directions is taken, anywhere in it.

    Args:
        count: B.
        size: height and width of the images.
        probability: of erasing an image.
        area: the smallest and the largest share of the image's area.
        ratio: the smallest and the largest height / width.
        generator: on the CPU; None: torch's global one.

    Returns:
        (B, 4) int64: top, left, height and width; zeros for images that are not erased.
    """
    drawn = torch.rand(count, 2 * TRIES + 3, dtype=torch.float64, generator=generator)
    pixels = (area[0] + (area[1] - area[0]) * drawn[:, :TRIES]) * size[0] * size[1]  # (B, 10)
    low, high = torch.tensor(ratio, dtype=torch.float64).log()
    aspect = (low + (high - low) * drawn[:, TRIES:-3]).exp()
    sides = torch.stack([(pixels * aspect).sqrt(), (pixels / aspect).sqrt()], dim=-1).round()  # (B, 10, 2)
    fits = (sides < torch.tensor(size)).all(-1)
    first = sides[torch.arange(count), fits.int().argmax(1)]  # (B, 2)
    corners = (drawn[:, -3:-1] * (torch.tensor(size) - first + 1)).floor()
    chosen = (drawn[:, -1] < probability) & fits.any(1)
    return torch.cat([corners, first], dim=1).long() * chosen[:, None]


class RandomErasing:
    """Erases a rectangle of each image with a probability; labels stay as they are."""

    def __init__(
        self,
        probability: float = 0.25,
        area: Sequence[float] = (0.02, 1 / 3),
        ratio: Sequence[float] = (0.3, 3.3),
        fill: Fill = "pixel",
    ) -> None:
        """For the arguments see `draw_boxes` and `erase`.

        Raises:
            ValueError: an argument is out of its range.
        """
        if not 0 <= probability <= 1 or not 0 < area[0] <= area[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                "mixing: erasing needs a probability in [0, 1], two rising numbers in (0, 1] as area and two above 0 "
                f"as ratio, not {probability=}, {area=}, {ratio=}"
            )
        if fill not in ("pixel", "mean"):
            raise ValueError(f"mixing: erasing's fill={fill} is unknown: choose pixel or mean")
        self.probability, self.area, self.ratio, self.fill = probability, area, ratio, fill

    def __call__(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, C, H, W) float, normalised; target of any kind."""
        height, width = images.shape[-2:]
        boxes = draw_boxes(len(images), (height, width), self.probability, self.area, self.ratio)
        return erase(images, boxes, self.fill), target
