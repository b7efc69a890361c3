"""A dataset of images given by Python code: paths, PIL images, arrays and tensors."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from fovea.data.index import Index
from fovea.data.loading.dataset import ImageDataset, Opened
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.decode import from_pil

OneImage = str | PathLike[str] | Image | np.ndarray | Tensor
KINDS = "a path, a PIL image, a uint8 array (H, W, 3) or a uint8 tensor (3, H, W)"


class GivenImages(ImageDataset):
    """A dataset without labels; paths are read like the images of a run.

    An unreadable image raises ValueError with its path or its position in `images`.
    """

    def __init__(self, images: Sequence[OneImage], augment: Augment, background: Sequence[int]) -> None:
        names = [
            fspath(image) if isinstance(image, str | PathLike) else f"images[{n}]" for n, image in enumerate(images)
        ]
        super().__init__(Index(names, torch.zeros(len(names))), augment, background=background)
        self.images = images

    def _open(self, index: int) -> Opened:
        image = self.images[index]
        if isinstance(image, str | PathLike):
            return super()._open(index)
        name = self.index.paths[index]
        return from_pil(image, self.background, name) if isinstance(image, Image) else _pixels(image, name)


def is_single_image(images: Any) -> bool:
    """Return whether this is a single image; a batch as an array or a tensor has one more dimension."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim < 4
    return isinstance(images, str | PathLike | Image)


def _pixels(image: Any, name: str) -> Tensor:
    """Convert RGB pixels to (3, H, W) uint8; raise ValueError for anything else."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return torch.from_numpy(image.copy()).permute(2, 0, 1)  # copied, because strides may be negative
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 3:
        return image.cpu()
    kind = type(image).__name__
    kind += f" of {image.dtype} {tuple(image.shape)}" if isinstance(image, np.ndarray | Tensor) else ""
    raise ValueError(
        f"{name} is a {kind}: give {KINDS}, in RGB\nPIL.Image.fromarray converts gray and transparent images"
    )
