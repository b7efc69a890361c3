"""Crops: compute from image sizes and random draws which part of each image becomes the network's input.

No pixels are used here. render.py applies the resulting `View`s to files, packed stores and resident images alike.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class View(NamedTuple):
    """A box of the image (top, left, height, width), its size after resizing, and a window in the resized box.

    The window is `size` x `size` pixels from row `y` and column `x`, mirrored if `flip`. `y` and `x` may be negative:
    pixels outside the resized box are 0.
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
    """The interface of `augment.train.crop` and `augment.eval.crop`.

    Attributes:
        size: the side of the result in pixels. For progressive resizing, copies get other values.
        draws: the number of uniform draws per image.
        interpolation: "bilinear" or "bicubic", antialiased.
        draft: decode a JPEG at a half, a quarter or an eighth of its size if the decoded box is still at least this
            many times larger than its size after resizing; 0: never. With 2, pixels of photographs change by 1 to 2 of
            255 on average, including a shift by half a decoded pixel.
    """

    size: int
    draws: int
    interpolation: str
    draft: int

    def __call__(self, sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Return a `View` per row, (B, 9) int64, for heights and widths (B, 2) and draws (B, self.draws) in [0, 1)."""


class RandomResizedCrop:
    """A box of random area and aspect ratio, resized to size x size and mirrored at random.

    Same distribution as torchvision's RandomResizedCrop and RandomHorizontalFlip: the first of ten boxes that fits into
    the image, else a center crop. Source: Szegedy et al. 2015, https://arxiv.org/abs/1409.4842.
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
        """`scale`: range of the box's area / the image's; `ratio`: range of width / height; `flip`: a probability."""
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                f"augment crop: scale={list(scale)} must be two rising numbers in (0, 1], "
                f"and ratio={list(ratio)} two rising numbers above 0"
            )
        self.size, self.scale, self.ratio = size, tuple(scale), tuple(ratio)
        self.flip, self.interpolation, self.draft = flip, check_interpolation(interpolation), draft
        self.draws = 2 * self.TRIES + 3

    def __call__(self, sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
        images, (heights, widths) = np.arange(len(sizes)), sizes.T
        areas, ratios = draws[:, : self.TRIES], draws[:, self.TRIES : -3]  # (B, 10)
        area = (heights * widths)[:, None] * scale_to(self.scale, areas)
        aspect = np.exp(scale_to(np.log(self.ratio), ratios))
        width, height = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (width > 0) & (width <= widths[:, None]) & (height > 0) & (height <= heights[:, None])
        first, any_fits = fits.argmax(axis=1), fits.any(axis=1)
        height = np.where(any_fits, height[images, first], self._limit(heights, widths / self.ratio[0]))
        width = np.where(any_fits, width[images, first], self._limit(widths, heights * self.ratio[1]))
        top = np.where(any_fits, np.floor(draws[:, -3] * (heights - height + 1)), (heights - height) // 2)
        left = np.where(any_fits, np.floor(draws[:, -2] * (widths - width + 1)), (widths - width) // 2)
        size, zero = np.full(len(sizes), self.size), np.zeros(len(sizes))
        return stack_views(top, left, height, width, size, size, zero, zero, draws[:, -1] < self.flip)

    @staticmethod
    def _limit(side: np.ndarray, maximum: np.ndarray) -> np.ndarray:
        """Return the side of the fallback's center crop: the image's, but at most what `ratio` allows."""
        return np.minimum(side, np.maximum(np.rint(maximum), 1))


class CenterCrop:
    """The short side resized to `resize`, keeping the aspect ratio, then the middle size x size pixels.

    Cuts out exactly the pixels of torchvision's Resize(resize) and CenterCrop(size).
    """

    draws = 0

    def __init__(self, size: int, resize: int, interpolation: str = "bilinear", draft: int = 0) -> None:
        self.size, self.resize, self.draft = size, resize, draft
        self.interpolation = check_interpolation(interpolation)

    def __call__(self, sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
        resized = short_side(sizes, self.resize)  # (B, 2)
        rest = resized - self.size
        y, x = np.where(rest < 0, -(-rest // 2), np.rint(rest / 2)).T  # torchvision's rounding, also of its padding
        zero = np.zeros(len(sizes))
        return stack_views(zero, zero, *sizes.T, *resized.T, y, x, zero)


class PaddedCrop:
    """The short side resized to `size`, padded with black pixels; a random size x size window, mirrored at random.

    The usual augmentation for CIFAR. Source: He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2.
    """

    draws = 3
    draft = 0

    def __init__(self, size: int, padding: int = 4, flip: float = 0.5, interpolation: str = "bilinear") -> None:
        self.size, self.padding, self.flip = size, padding, flip
        self.interpolation = check_interpolation(interpolation)

    def __call__(self, sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
        resized = short_side(sizes, self.size)  # (B, 2)
        y, x = (np.floor(draws[:, :2] * (resized + 2 * self.padding - self.size + 1)) - self.padding).T
        zero = np.zeros(len(sizes))
        return stack_views(zero, zero, *sizes.T, *resized.T, y, x, draws[:, 2] < self.flip)


def with_size(crop: Crop, size: int) -> Crop:
    """Return the crop with another `size`; the `resize` of a center crop is scaled by the same factor."""
    if size == crop.size:
        return crop
    other = copy.copy(crop)
    other.size = size
    if isinstance(crop, CenterCrop) and isinstance(other, CenterCrop):
        other.resize = round(crop.resize * size / crop.size)
    return other


def whole_square(crop: Crop) -> Crop:
    """Return the center crop of side `resize`, from which crops of `size` can be taken at the corners.

    Raises:
        ValueError: the crop has no `resize` above its `size`.
    """
    resize = getattr(crop, "resize", 0)
    if resize <= crop.size:
        raise ValueError(
            "tta: five crops need augment.eval.crop to be a center crop with a resize above its size, but "
            f"{type(crop).__name__} has size={crop.size} and resize={resize or None}: type "
            f"augment.eval.crop.resize={round(crop.size / 0.875)}, or tta=flip"
        )
    other = copy.copy(crop)
    other.size = resize
    return other


def check_interpolation(interpolation: str) -> str:
    """Return the value; raise ValueError if it is unknown."""
    if interpolation not in ("bilinear", "bicubic"):
        raise ValueError(f"augment crop: interpolation={interpolation} is unknown: choose bilinear or bicubic")
    return interpolation


def scale_to(bounds: Sequence[float] | np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Scale draws in [0, 1) linearly to the range `bounds`."""
    return bounds[0] + (bounds[1] - bounds[0]) * draws


def short_side(sizes: np.ndarray, length: int) -> np.ndarray:
    """Return heights and widths (B, 2) after resizing the short side to `length`; the long side is rounded down."""
    return sizes * length // sizes.min(axis=1, keepdims=True)


def stack_views(*columns: np.ndarray) -> np.ndarray:
    """Stack the nine fields of `View` to (B, 9) int64."""
    return np.stack(columns, axis=1).astype(np.int64)
