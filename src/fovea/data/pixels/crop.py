"""Which part of an image becomes the network's input, from sizes and random draws alone.

No pixel is touched here: files, packed stores, tensors on a device are all cropped by the same `View`s (render.py).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class View(NamedTuple):
    """A box of the image, resized; of that the `size` x `size` pixels from (`y`, `x`) on, mirrored if `flip`.

    `y` and `x` may be negative: what lies outside of the resized box is 0.
    """

    top: int
    left: int
    height: int
    width: int
    resized_height: int
    resized_width: int
    y: int
    x: int
    flip: int


class Crop(Protocol):
    """What `augment.train.crop` and `augment.eval.crop` are.

    Attributes:
        size: the side of the result in pixels.
        draws: how many uniform draws an image takes.
        interpolation: "bilinear" or "bicubic", antialiased.
        draft: a JPEG is decoded at a half, a quarter or an eighth of its size where that leaves the box at least so
            many times as large as it is resized to; 0: never. At 2 that changes the result's pixels by 1 to 2 of 255 in
            the mean, of photographs, half of a decoded pixel's shift included.
    """

    size: int
    draws: int
    interpolation: str
    draft: int

    def __call__(self, sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """(B, 9) int64, a `View` a row, from (B, 2) heights and widths and (B, self.draws) draws in [0, 1)."""


class RandomResizedCrop:
    """A random part of the area in a random aspect ratio, resized to size x size, mirrored at random.

    Distributed as torchvision's RandomResizedCrop and RandomHorizontalFlip: ten tries, the first that fits, else the
    middle. Source: Szegedy et al. 2015, https://arxiv.org/abs/1409.4842.
    """

    TRIES = 10

    def __init__(
        self,
        size: int,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        interpolation: str = "bilinear",
        draft: int = 2,
    ) -> None:
        """`scale` is a range of the image's area, `ratio` of width / height, `flip` a probability."""
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                f"augment crop: scale={list(scale)} must lie in (0, 1], ratio={list(ratio)} above 0, rising"
            )
        self.size, self.scale, self.ratio = size, tuple(scale), tuple(ratio)
        self.flip, self.interpolation, self.draft = flip, checked(interpolation), draft
        self.draws = 2 * self.TRIES + 3

    def __call__(self, sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
        images, (heights, widths) = np.arange(len(sizes)), sizes.T
        areas, ratios = draws[:, : self.TRIES], draws[:, self.TRIES : -3]  # (B, 10)
        area = (heights * widths)[:, None] * between(self.scale, areas)
        aspect = np.exp(between(np.log(self.ratio), ratios))
        width, height = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (width > 0) & (width <= widths[:, None]) & (height > 0) & (height <= heights[:, None])
        first, any_fits = fits.argmax(axis=1), fits.any(axis=1)
        height = np.where(any_fits, height[images, first], self._middle(heights, widths, widths / self.ratio[0]))
        width = np.where(any_fits, width[images, first], self._middle(widths, heights, heights * self.ratio[1]))
        top = np.where(any_fits, np.floor(draws[:, -3] * (heights - height + 1)), (heights - height) // 2)
        left = np.where(any_fits, np.floor(draws[:, -2] * (widths - width + 1)), (widths - width) // 2)
        whole, zero = np.full(len(sizes), self.size), np.zeros(len(sizes))
        return stack(top, left, height, width, whole, whole, zero, zero, draws[:, -1] < self.flip)

    @staticmethod
    def _middle(side: np.ndarray, other: np.ndarray, most: np.ndarray) -> np.ndarray:
        """What of `side` the fall-back takes: no more than the most extreme ratio allows."""
        return np.minimum(side, np.maximum(np.rint(most), 1))


class CenterCrop:
    """The short side resized to `resize`, the aspect kept; the middle size x size pixels. Nothing random.

    To the pixel what torchvision's Resize(resize) and CenterCrop(size) cut out.
    """

    draws = 0

    def __init__(self, size: int, resize: int, interpolation: str = "bilinear", draft: int = 0) -> None:
        self.size, self.resize, self.interpolation, self.draft = size, resize, checked(interpolation), draft

    def __call__(self, sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
        resized = short_side(sizes, self.resize)  # (B, 2)
        room = resized - self.size
        y, x = np.where(room < 0, -(-room // 2), np.rint(room / 2)).T  # as torchvision rounds, also where it pads
        zero = np.zeros(len(sizes))
        return stack(zero, zero, *sizes.T, *resized.T, y, x, zero)


class PaddedCrop:
    """The short side resized to `size`, `padding` black pixels all around; size x size anywhere in it, mirrored.

    CIFAR's. Source: He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2.
    """

    draws = 3
    draft = 0

    def __init__(self, size: int, padding: int = 4, flip: float = 0.5, interpolation: str = "bilinear") -> None:
        self.size, self.padding, self.flip, self.interpolation = size, padding, flip, checked(interpolation)

    def __call__(self, sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
        resized = short_side(sizes, self.size)  # (B, 2)
        y, x = (np.floor(draws[:, :2] * (resized + 2 * self.padding - self.size + 1)) - self.padding).T
        zero = np.zeros(len(sizes))
        return stack(zero, zero, *sizes.T, *resized.T, y, x, draws[:, 2] < self.flip)


def checked(interpolation: str) -> str:
    """Raises ValueError where it is neither of the two."""
    if interpolation not in ("bilinear", "bicubic"):
        raise ValueError(f"augment crop: interpolation={interpolation} is unknown: bilinear or bicubic")
    return interpolation


def between(ends: Sequence[float] | np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Uniform from one end to the other."""
    return ends[0] + (ends[1] - ends[0]) * draws


def short_side(sizes: np.ndarray, to: int) -> np.ndarray:
    """(B, 2) heights and widths after resizing the shorter of both to `to`; the longer is rounded down."""
    return sizes * to // sizes.min(axis=1, keepdims=True)


def stack(*columns: np.ndarray) -> np.ndarray:
    """(B, 9) int64."""
    return np.stack(columns, axis=1).astype(np.int64)
