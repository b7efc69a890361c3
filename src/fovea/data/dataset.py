"""The dataset: an index of images on disk, read, transformed and handed out in whole batches."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fovea.data.decode import UnreadableImage, read_image
from fovea.data.index import Index
from fovea.data.sampler import Key
from fovea.data.seeds import mix


class Batch(NamedTuple):
    """What a loader yields. `unreadable` are the indices that were to be in it and were skipped."""

    images: Tensor  # (B, 3, H, W) uint8
    targets: Tensor  # (B,) int64 or (B, K) float
    indices: Tensor  # (B,) int64, into the split's index
    unreadable: Tensor  # (S,) int64


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Map-style over `index`; an item is (image uint8 (3, H, W), target).

    Random transforms draw from torch's generator, seeded for each image from (seed, epoch, index): worker count, order
    and restarts change no pixel. A key is an index, or (epoch, index).
    """

    def __init__(
        self,
        index: Index,
        transform: Callable[[Tensor], Tensor],
        size: int,
        seed: int = 0,
        on_error: str = "raise",
        background: Sequence[int] = (255, 255, 255),
    ) -> None:
        """`transform` maps uint8 (3, H, W) to uint8 (3, size, size); `on_error` is "raise" or "skip"."""
        self.index, self.transform, self.size, self.seed = index, transform, size, seed
        self.skip, self.background = on_error == "skip", background

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: int | Key) -> tuple[Tensor, Tensor]:
        """Raises UnreadableImage whatever `on_error` says: one item can't be left out."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        with torch.random.fork_rng(devices=[]):
            return self._image(epoch, index), self.index.targets[index]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """A whole batch at once; images that can't be read are left out where `on_error` is "skip"."""
        images: list[Tensor] = []
        kept: list[int] = []
        left_out: list[int] = []
        with torch.random.fork_rng(devices=[]):  # without workers this is the training process's own generator
            for epoch, index in keys:
                try:
                    images.append(self._image(epoch, index))
                    kept.append(index)
                except UnreadableImage:
                    if not self.skip:
                        raise
                    left_out.append(index)
        stacked = torch.stack(images) if images else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        indices = torch.tensor(kept, dtype=torch.long)
        return Batch(stacked, self.index.targets[indices], indices, torch.tensor(left_out, dtype=torch.long))

    def _image(self, epoch: int, index: int) -> Tensor:
        image = read_image(self.index.paths[index], self.background)
        torch.default_generator.manual_seed(mix(self.seed, epoch, index))
        return self.transform(image)
