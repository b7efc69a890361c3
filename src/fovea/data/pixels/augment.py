"""The augmentation of a split's images: a crop, then any transforms of the uint8 square that it gives."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fovea.data.pixels.crop import Crop, with_size
from fovea.data.random_numbers import derive_seed, uniforms


class Augment:
    """Augments images; an image's random numbers depend on (seed, key) alone, not on other images.

    Attribute `size_at`: (epoch) -> the side of its images, if it is not `crop.size` in every epoch.
    """

    def __init__(self, crop: Crop, transforms: Sequence[Callable[[Tensor], Tensor]] = ()) -> None:
        """`transforms` map uint8 (3, S, S) to the same and use torch's global generator, like torchvision's."""
        self.crop, self.transforms = crop, list(transforms)
        self.size_at: Callable[[int], int] | None = None

    def crop_for(self, keys: Sequence[Sequence[int]] | np.ndarray) -> Crop:
        """Return the crop of images with these keys, all of one epoch, which is the first number of a key."""
        if self.size_at is None or not len(keys):
            return self.crop
        return with_size(self.crop, self.size_at(int(keys[0][0])))

    def views(self, seed: int, keys: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return the `View`s (B, 9) of images with these keys (B, 3), all of one epoch, and sizes (B, 2)."""
        return self.crop_for(keys)(sizes, uniforms(seed, keys, self.crop.draws))

    def transform(self, seed: int, keys: np.ndarray, images: Tensor) -> None:
        """Apply `transforms` to each of `images` (B, 3, S, S) in place; restores the state of torch's generators.

        Raises:
            ValueError: a transform returns anything but uint8 (3, S, S).
        """
        if not self.transforms:
            return
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices):  # without workers, training uses the same generator
            for key, image in zip(keys.tolist(), images, strict=True):
                torch.default_generator.manual_seed(derive_seed(seed, *key))
                if devices:
                    torch.cuda.manual_seed(derive_seed(seed, *key))
                out = image
                for transform in self.transforms:
                    out = transform(out)
                if out.shape != image.shape or out.dtype != torch.uint8:
                    raise ValueError(
                        f"augment.<split>.transforms: {self.transforms} returns {out.dtype} {tuple(out.shape)} "
                        f"instead of uint8 {tuple(image.shape)}: remove scaling and normalizing, which follow later"
                    )
                image.copy_(out)
