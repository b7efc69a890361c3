"""The dataset: reads, crops and transforms the images of an index, a whole batch at a time."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fovea.data.index import Index
from fovea.data.loading.batch_samplers import Key
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import View
from fovea.data.pixels.decode import WHITE, UnreadableImage, decode_image_bytes, read_file, too_large
from fovea.data.pixels.header import read_header
from fovea.data.pixels.jpeg import Jpeg, as_jpeg, decode_view
from fovea.data.pixels.render import render

Opened = Jpeg | Tensor  # a JPEG that is not decoded yet, or pixels (3, H, W)
CHUNK = 16  # images whose encoded bytes are in memory at a time


class Batch(NamedTuple):
    """One batch of a data loader; `unreadable` are the indices of images that were skipped."""

    images: Tensor  # (B, 3, H, W) uint8, channels-last in memory
    targets: Tensor  # (B,) int64 or (B, K) float
    indices: Tensor  # (B,) int64, into the split's index
    unreadable: Tensor  # (S,) int64


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """A map-style dataset over `index`; an item is (image uint8 (3, H, W), target).

    The augmentation of an image depends on (seed, key) alone, so the number of workers, the order and resuming change
    no pixel. A key is an index, or (epoch, index, copy).
    """

    def __init__(
        self,
        index: Index,
        augment: Augment,
        seed: int = 0,
        on_error: str = "raise",
        background: Sequence[int] = WHITE,
    ) -> None:
        """`on_error` is "raise" or "skip"; `background` (R, G, B) is blended with transparent pixels."""
        self.index, self.augment, self.seed = index, augment, seed
        self.skip, self.background = on_error == "skip", background

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: int | Key) -> tuple[Tensor, Tensor]:
        """Return one item; raises UnreadableImage even if `on_error` is "skip"."""
        key = key if isinstance(key, tuple) else (0, int(key), 0)
        image, squares = self._open(key[1]), empty_images(1, self.augment.crop_for([key]).size)
        self.render(key[1], image, self.views([(key, image)])[0], squares[0])
        self.transform([key], squares)
        return squares[0], self.index.labels(torch.tensor(key[1]))

    def __getitems__(self, keys: Sequence[int | Key]) -> Batch:
        """Return a whole batch, of keys of one epoch; unreadable images are skipped if `on_error` is "skip"."""
        full_keys = [key if isinstance(key, tuple) else (0, int(key), 0) for key in keys]
        return self.fill(full_keys, empty_images(len(full_keys), self.augment.crop_for(full_keys).size))

    def fill(self, keys: Sequence[Key], images: Tensor) -> Batch:
        """Return a whole batch whose images are written into `images`, (B, 3, S, S) uint8, channels-last."""
        kept: list[Key] = []
        unreadable: list[int] = []
        for first in range(0, len(keys), CHUNK):
            opened = self.open(keys[first : first + CHUNK], unreadable)
            kept += self.render_all(opened, images[len(kept) :], unreadable)
        images = images[: len(kept)]
        self.transform(kept, images)
        return self.batch(images, kept, unreadable)

    def batch(self, images: Tensor, keys: Sequence[Key], unreadable: list[int]) -> Batch:
        """Combine images (B, 3, S, S) with the targets and indices of their keys."""
        indices = torch.tensor([index for _, index, _ in keys], dtype=torch.long)
        return Batch(images, self.index.labels(indices), indices, torch.tensor(unreadable, dtype=torch.long))

    def transform(self, keys: Sequence[Key], images: Tensor) -> None:
        """Apply the augmentation's transforms to cropped images, in place."""
        self.augment.transform(self.seed, np.array(keys, np.int64).reshape(-1, 3), images)

    def open(self, keys: Sequence[Key], unreadable: list[int]) -> list[tuple[Key, Opened]]:
        """Read images and return them with their keys; indices of unreadable images are added to `unreadable`."""
        opened = []
        for key in keys:
            with self.skip_unreadable(key[1], unreadable):
                opened.append((key, self._open(key[1])))
        return opened

    def views(self, opened: Sequence[tuple[Key, Opened]]) -> list[View]:
        """Return the view of each image."""
        if not opened:
            return []
        sizes = [(i.height, i.width) if isinstance(i, Jpeg) else i.shape[1:] for _, i in opened]
        views = self.augment.views(self.seed, np.array([key for key, _ in opened]), np.array(sizes))
        return [View._make(view) for view in views.tolist()]

    def render_all(self, opened: Sequence[tuple[Key, Opened]], images: Tensor, unreadable: list[int]) -> list[Key]:
        """Decode and crop each image into the next of `images` and return the keys of the images written.

        Indices of images that cannot be decoded are added to `unreadable`.
        """
        kept: list[Key] = []
        for (key, image), view in zip(opened, self.views(opened), strict=True):
            with self.skip_unreadable(key[1], unreadable):
                self.render(key[1], image, view, images[len(kept)])
                kept.append(key)
        return kept

    def render(self, index: int, image: Opened, view: View, out: Tensor) -> None:
        """Decode, crop and resize `image` as `view` describes, and write it into `out` (3, S, S).

        Raises:
            UnreadableImage: the file is damaged, or the image is so thin that resizing it would take gigabytes.
        """
        if too_large(view.resized_height * view.resized_width):
            name, height, width = self.index.paths[index], view.height, view.width
            raise UnreadableImage(
                f"{name}: too thin, {height} x {width} pixels would be resized to millions on the long side"
            )
        if isinstance(image, Tensor):
            pixels = image
        else:
            try:
                pixels, view = decode_view(image, view, self.augment.crop.draft)
            except ValueError:  # PIL reads some damaged files and gives better error messages
                pixels = self.decode(index, image.data)
        render(pixels, view, self.augment.crop.interpolation, out)

    def pixels(self, index: int) -> Tensor:
        """Return the whole image without augmentation, (3, H, W) uint8.

        Raises:
            UnreadableImage: the image cannot be read, whatever `on_error` is.
        """
        image = self._open(index)
        return self.decode(index, image.data) if isinstance(image, Jpeg) else image

    def read(self, index: int) -> bytes | memoryview | Tensor:
        """Return an image's encoded file, or its pixels (3, H, W) uint8 if it is in a store of pixels.

        Raises:
            UnreadableImage: there is no such file, or it cannot be read.
        """
        store = self.index.store
        if store is None:
            return read_file(self.index.paths[index])
        stored = store.read(int(self.index.rows[index]))
        return stored if stored.ndim == 3 else memoryview(stored.numpy())  # type: ignore[arg-type]

    def _open(self, index: int) -> Opened:
        data = self.read(index)
        if isinstance(data, Tensor):
            return data
        header = read_header(data)
        jpeg = as_jpeg(data, header) if header and not too_large(header.pixels) else None
        return jpeg or self.decode(index, data)

    def decode(self, index: int, data: bytes | memoryview) -> Tensor:
        """Decode a whole file to (3, H, W) uint8; an error names the path of image `index`."""
        return decode_image_bytes(data, self.background, self.index.paths[index])

    @contextmanager
    def skip_unreadable(self, index: int, unreadable: list[int]) -> Iterator[None]:
        """Handle an UnreadableImage: add `index` to `unreadable` if `on_error` is "skip", else raise.

        Raises:
            ValueError: the image's folder does not exist any more; otherwise all its images would be skipped.
        """
        try:
            yield
        except UnreadableImage as error:
            if isinstance(error.__cause__, OSError):
                check_folder(self.index.paths[index], error)
            if not self.skip:
                raise
            unreadable.append(index)


def check_folder(path: str, error: UnreadableImage) -> None:
    """Raise ValueError if the folder of an unreadable image does not exist any more."""
    folder = missing = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(os.path.dirname(missing)):
        missing = os.path.dirname(missing)
    if not os.path.isdir(folder):
        reason = f"The folder {missing} does not exist any more: was it removed, renamed or unmounted?"
        raise ValueError(f"{error}\n{reason}") from error


def empty_images(count: int, size: int, device: torch.device | None = None) -> Tensor:
    """Allocate (count, 3, size, size) uint8, channels-last."""
    return torch.empty((count, size, size, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
