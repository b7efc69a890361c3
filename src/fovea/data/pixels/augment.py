"""What is done to the images of a split: a crop, then any transforms of the uint8 square that it leaves."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fovea.data.pixels.crop import Crop
from fovea.data.random_numbers import mix, uniforms


class Augment:
    """All of an image's randomness follows from (seed, key), whatever else is drawn before or beside it."""

    def __init__(self, crop: Crop, transforms: Sequence[Callable[[Tensor], Tensor]] = ()) -> None:
        """`transforms` map uint8 (3, S, S) to the same and draw from torch's generator, as torchvision's do."""
        self.crop, self.transforms = crop, list(transforms)

    def views(self, seed: int, keys: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """(B, 9), the `View`s of images with the given keys (B, 3) and sizes (B, 2)."""
        return self.crop(sizes, uniforms(seed, keys, self.crop.draws))

    def transform(self, seed: int, keys: np.ndarray, images: Tensor) -> None:
        """Apply `transforms` to each of (B, 3, S, S), in place; the caller's generator is left as it was.

        Raises:
            ValueError: a transform gives anything but uint8 (3, S, S).
        """
        if not self.transforms:
            return
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices):  # without workers this is the training process's own generator
            for key, image in zip(keys.tolist(), images, strict=True):
                torch.default_generator.manual_seed(mix(seed, *key))
                if devices:
                    torch.cuda.manual_seed(mix(seed, *key))
                out = image
                for transform in self.transforms:
                    out = transform(out)
                if out.shape != image.shape or out.dtype != torch.uint8:
                    raise ValueError(
                        f"augment.<split>.transforms: {self.transforms} gives {out.dtype} {tuple(out.shape)} "
                        f"and has to give uint8 {tuple(image.shape)}: scaling and normalising come later, on the device"
                    )
                image.copy_(out)
