"""The dataset: an index of images, read, cropped, transformed and handed out in whole batches."""

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

Opened = Jpeg | Tensor  # a JPEG that waits for its view, or pixels (3, H, W)
AT_ONCE = 16  # images whose encoded bytes are held at a time


class Batch(NamedTuple):
    """What a loader yields. `unreadable` are the indices that were to be in it and were skipped."""

    images: Tensor  # (B, 3, H, W) uint8, channels-last in memory
    targets: Tensor  # (B,) int64 or (B, K) float
    indices: Tensor  # (B,) int64, into the split's index
    unreadable: Tensor  # (S,) int64


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Map-style over `index`; an item is (image uint8 (3, H, W), target).

    An image's augmentation follows from (seed, key): worker count, order and restarts change no pixel. A key is an
    index, or (epoch, index, copy).
    """

    def __init__(
        self,
        index: Index,
        augment: Augment,
        seed: int = 0,
        on_error: str = "raise",
        background: Sequence[int] = WHITE,
    ) -> None:
        """`on_error` is "raise" or "skip"; `background` is what transparent pixels are laid on."""
        self.index, self.augment, self.seed = index, augment, seed
        self.skip, self.background = on_error == "skip", background

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: int | Key) -> tuple[Tensor, Tensor]:
        """Raises UnreadableImage whatever `on_error` says: one item can't be left out."""
        key = key if isinstance(key, tuple) else (0, int(key), 0)
        image, squares = self._open(key[1]), empty_images(1, self.augment.crop.size)
        self.render(key[1], image, self.views([(key, image)])[0], squares[0])
        self.transform([key], squares)
        return squares[0], self.index.labels(torch.tensor(key[1]))

    def __getitems__(self, keys: Sequence[int | Key]) -> Batch:
        """A whole batch at once; images that can't be read are left out where `on_error` is "skip"."""
        whole = [key if isinstance(key, tuple) else (0, int(key), 0) for key in keys]
        return self.fill(whole, empty_images(len(whole), self.augment.crop.size))

    def fill(self, keys: Sequence[Key], images: Tensor) -> Batch:
        """The same, in memory that is given: (B, 3, S, S) uint8, channels-last."""
        kept: list[Key] = []
        left_out: list[int] = []
        for first in range(0, len(keys), AT_ONCE):
            opened = self.open(keys[first : first + AT_ONCE], left_out)
            kept += self.render_all(opened, images[len(kept) :], left_out)
        images = images[: len(kept)]
        self.transform(kept, images)
        return self.batch(images, kept, left_out)

    def batch(self, images: Tensor, keys: Sequence[Key], left_out: list[int]) -> Batch:
        """Images (B, 3, S, S) with what is known of them, `keys` (B)."""
        indices = torch.tensor([index for _, index, _ in keys], dtype=torch.long)
        return Batch(images, self.index.labels(indices), indices, torch.tensor(left_out, dtype=torch.long))

    def transform(self, keys: Sequence[Key], images: Tensor) -> None:
        """What comes after the crop, in place."""
        self.augment.transform(self.seed, np.array(keys, np.int64).reshape(-1, 3), images)

    def open(self, keys: Sequence[Key], left_out: list[int]) -> list[tuple[Key, Opened]]:
        """The images that can be read, each with its key; the indices of the others are added to `left_out`."""
        opened = []
        for key in keys:
            with self.leaving_out(key[1], left_out):
                opened.append((key, self._open(key[1])))
        return opened

    def views(self, opened: Sequence[tuple[Key, Opened]]) -> list[View]:
        """Which part of each is taken."""
        if not opened:
            return []
        sizes = [(i.height, i.width) if isinstance(i, Jpeg) else i.shape[1:] for _, i in opened]
        views = self.augment.views(self.seed, np.array([key for key, _ in opened]), np.array(sizes))
        return [View._make(view) for view in views.tolist()]

    def render_all(self, opened: Sequence[tuple[Key, Opened]], images: Tensor, left_out: list[int]) -> list[Key]:
        """Crop each into the next of `images`; the keys of those that can be decoded, the others' go to `left_out`."""
        kept: list[Key] = []
        for (key, image), view in zip(opened, self.views(opened), strict=True):
            with self.leaving_out(key[1], left_out):
                self.render(key[1], image, view, images[len(kept)])
                kept.append(key)
        return kept

    def render(self, index: int, image: Opened, view: View, out: Tensor) -> None:
        """Write what `view` shows of `image` into `out` (3, S, S).

        Raises:
            UnreadableImage: the file is damaged, or the image so thin that resizing it would take gigabytes.
        """
        if too_large(view.resized_height * view.resized_width):
            name, height, width = self.index.paths[index], view.height, view.width
            raise UnreadableImage(f"{name}: too thin, {height} x {width} pixels would become millions on the long side")
        if isinstance(image, Tensor):
            pixels = image
        else:
            try:
                pixels, view = decode_view(image, view, self.augment.crop.draft)
            except ValueError:  # PIL reads some damaged ones, and names the fault of the rest
                pixels = self.decode(index, image.data)
        render(pixels, view, self.augment.crop.interpolation, out)

    def pixels(self, index: int) -> Tensor:
        """(3, H, W) uint8, the whole image as it is.

        Raises:
            UnreadableImage: whatever `on_error` says.
        """
        image = self._open(index)
        return self.decode(index, image.data) if isinstance(image, Jpeg) else image

    def _open(self, index: int) -> Opened:
        store = self.index.store
        held = store.read(int(self.index.rows[index])) if store else None
        if held is not None and held.ndim == 3:
            return held
        data = read_file(self.index.paths[index]) if held is None else memoryview(held.numpy())  # type: ignore[arg-type]
        header = read_header(data)
        jpeg = as_jpeg(data, header) if header and not too_large(header.pixels) else None
        return jpeg or self.decode(index, data)

    def decode(self, index: int, data: bytes | memoryview) -> Tensor:
        """(3, H, W) uint8 of a whole file's bytes; `index` is named where it can't be read."""
        return decode_image_bytes(data, self.background, self.index.paths[index])

    @contextmanager
    def leaving_out(self, index: int, left_out: list[int]) -> Iterator[None]:
        """Of an image that can't be read: raise, or note its index.

        Raises:
            ValueError: its folder is gone too, whatever `on_error` says: image by image, all would be left out.
        """
        try:
            yield
        except UnreadableImage as error:
            if isinstance(error.__cause__, OSError):
                check_folder(self.index.paths[index], error)
            if not self.skip:
                raise
            left_out.append(index)


def check_folder(path: str, error: UnreadableImage) -> None:
    """Raises ValueError where the folder of an image that can't be read isn't there any more."""
    folder = missing = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(os.path.dirname(missing)):
        missing = os.path.dirname(missing)
    if not os.path.isdir(folder):
        reason = f"The folder {missing} is gone: removed, renamed, or a disk that came off?"
        raise ValueError(f"{error}\n{reason}") from error


def empty_images(count: int, size: int, device: torch.device | None = None) -> Tensor:
    """(count, 3, size, size) uint8, channels-last."""
    return torch.empty((count, size, size, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
