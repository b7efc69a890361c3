"""The augmentation of a split's images: a crop, then any transforms of the uint8 square that it gives."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fovea.data.pixels.crop import Crop, View, with_size
from fovea.data.progressive import Progression
from fovea.data.random_numbers import derive_seed, uniforms

FLIP = View._fields.index("flip")


class Augment:
    """Augments images; an image's random numbers depend on (seed, key) alone, not on other images.

    Attribute `size_at`: (epoch) -> the side of its images, if it is not `crop.size` in every epoch.
    """

    def __init__(
        self, crop: Crop, transforms: Sequence[Callable[[Tensor], Tensor]] = (), alternating_flip: bool = False
    ) -> None:
        """Args:
        crop: see `Crop`.
        transforms: map uint8 (3, S, S) to the same and use torch's global generator, like torchvision's.
        alternating_flip: replaces the crop's flips, see `alternating_flips`.
        """
        self.crop, self.transforms, self.alternating_flip = crop, list(transforms), alternating_flip
        self.size_at: Progression | None = None

    @property
    def sizes(self) -> list[int]:
        """The side of the images of each epoch; the last one holds for all later epochs."""
        return [self.crop.size] if self.size_at is None else self.size_at.of_epochs()

    def crop_for(self, keys: Sequence[Sequence[int]] | np.ndarray) -> Crop:
        """Return the crop of images with these keys, all of one epoch, which is the first number of a key."""
        if self.size_at is None or not len(keys):
            return self.crop
        return with_size(self.crop, self.size_at(int(keys[0][0])))

    def views(self, seed: int, keys: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return the `View`s (B, 9) of images with these keys (B, 3), all of one epoch, and sizes (B, 2)."""
        views = self.crop_for(keys)(sizes, uniforms(seed, keys, self.crop.draws))
        if self.alternating_flip:
            views[:, FLIP] = alternating_flips(seed, keys)
        return views

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


def alternating_flips(seed: int, keys: np.ndarray) -> np.ndarray:
    """Return (B,) bool: whether each image is mirrored, at random in the first epoch and then in every second one.

    Any two epochs in a row show an image both ways, which repeats fewer views than flips at random.

    Source: Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.6.

    Args:
        seed: of the first epoch's flips.
        keys: (B, 3) integers: epoch, index, repetition; repetitions of an image in an epoch alternate too.
    """
    first = uniforms(seed, keys[:, 1:2], 1)[:, 0] < 0.5
    return first ^ ((keys[:, 0] + keys[:, 2]) % 2 == 1)
