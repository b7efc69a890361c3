"""A whole split of decoded images on the device: nothing is read, decoded or copied while training."""

import logging
import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fovea.data.loading.batch_samplers import EvalBatches, TrainBatches
from fovea.data.loading.dataset import Batch, ImageDataset, empty_images
from fovea.data.pixels.crop import Crop, View
from fovea.data.pixels.decode import UnreadableImage
from fovea.data.pixels.render import render

log = logging.getLogger(__name__)
PIXEL = 4  # bytes
SAMPLE = 64  # images whose size tells about that of all


class ResidentImages:
    """N images of up to H x W pixels on a device, each in the upper left corner of its place.

    Attributes:
        pixels: (N, H + 2M, W + 2M) int32, a pixel of red, green, blue and 0 in each: a pixel is fetched at once, and
            a crop that reaches over the edge finds a black margin of M pixels there.
        index: the split's.
        sizes: (N, 2) int64, heights and widths; 0, 0 for what can't be read.
        targets: the split's.
    """

    def __init__(self, dataset: ImageDataset, device: torch.device, threads: int = 1) -> None:
        """Decode every image of `dataset`, `threads` at a time; its augmentation comes later.

        Raises:
            ValueError: the device has less memory.
            UnreadableImage: where the dataset's `on_error` is "raise".
        """
        self.index, self.device = dataset.index, device
        with ThreadPoolExecutor(max(1, threads)) as pool:

            def decode(indices: Sequence[int]) -> list[Tensor]:
                return list(pool.map(lambda index: _pixels(dataset, index), indices))

            first = decode(range(min(SAMPLE, len(dataset))))
            expected = sum(image[0].numel() for image in first) * PIXEL * len(dataset) // len(first)
            check_memory(expected, device, len(dataset))
            check_memory(2 * expected, torch.device("cpu"), len(dataset))  # decoded, and in their places
            images = first + decode(range(len(first), len(dataset)))
        self.sizes = np.array([image.shape[1:] for image in images])  # (N, 2)
        height, width = self.sizes.max(axis=0).tolist()
        self.margin = self._reach(dataset.augment.crop)
        shape = (len(images), height + 2 * self.margin, width + 2 * self.margin, PIXEL)
        check_memory(math.prod(shape), device, len(images))
        pixels = torch.zeros(shape, dtype=torch.uint8)
        for place, image in zip(pixels, images, strict=True):
            inside = place[self.margin :, self.margin :]
            inside[: image.shape[1], : image.shape[2], :3] = image.permute(1, 2, 0)
        self.pixels = pixels.view(torch.int32)[..., 0].to(device)
        self.targets = dataset.index.labels(torch.arange(len(images))).to(device)
        log.info("%d images, %d MB, are kept on %s", len(images), pixels.numel() >> 20, device)

    def crop(self, rows: np.ndarray, views: np.ndarray, size: int, interpolation: str) -> Tensor:
        """(B, 3, size, size) uint8 of the images in `rows` (B,), as `views` (B, 9) show them."""
        if (views[:, 2:4] == views[:, 4:6]).all():  # nothing is resized
            return self._windows(rows, views, size)
        out, margin = empty_images(len(rows), size, self.device), self.margin
        for row, view, square in zip(rows.tolist(), views.tolist(), out, strict=True):
            image = colours(self.pixels[row, margin:, margin:]).permute(2, 0, 1)
            render(image, View._make(view), interpolation, square)
        return out

    def _windows(self, rows: np.ndarray, views: np.ndarray, size: int) -> Tensor:
        """All images at once: every window that there is, as a view of the memory, and one index into it."""
        y, x = (views[:, :2] + views[:, 6:8]).T  # what is not resized and not whole is not moved
        self._make_room(over_the_edge(views, self.sizes[rows], size))
        images, (n, height, width) = self.pixels.stride(), self.pixels.shape
        windows = self.pixels.as_strided((n, height - size + 1, width - size + 1, size, size), (*images, *images[1:]))
        squares = windows[
            tuple(torch.from_numpy(at).to(self.device) for at in (rows, y + self.margin, x + self.margin))
        ]
        mirrored = torch.from_numpy(views[:, 8].nonzero()[0]).to(self.device)
        squares[mirrored] = squares[mirrored].flip(2)
        return colours(squares).permute(0, 3, 1, 2)

    def _reach(self, crop: Crop) -> int:
        """How many pixels the least and the greatest draws lead over an edge, where nothing is resized."""
        readable = self.sizes[self.sizes[:, 0] > 0]
        views = [crop(readable, np.full((len(readable), crop.draws), draw)) for draw in (0.0, 1 - 2**-53)]
        return max(0, *(over_the_edge(view, readable, crop.size) for view in views if len(view)), 0)

    def _make_room(self, margin: int) -> None:
        """A black margin of at least `margin` pixels around all images."""
        if margin > self.margin:
            self.pixels = F.pad(self.pixels, [margin - self.margin] * 4)
            self.margin = margin


def over_the_edge(views: np.ndarray, sizes: np.ndarray, size: int) -> int:
    """By how many pixels a window of `views` (B, 9) that isn't resized lies outside its image of `sizes` (B, 2)."""
    of_whole = views[(views[:, 2:4] == views[:, 4:6]).all(axis=1)]
    sizes = sizes[(views[:, 2:4] == views[:, 4:6]).all(axis=1)]
    start = of_whole[:, :2] + of_whole[:, 6:8]
    return int(max(0, (-start).max(initial=0), (start + size - sizes).max(initial=0)))


def colours(pixels: Tensor) -> Tensor:
    """(..., 3) uint8 of (...) int32, without copying."""
    return pixels[..., None].view(torch.uint8)[..., :3]


class ResidentLoader:
    """Iterates over batches of resident images: what a loader of files yields, already on the device."""

    def __init__(self, images: ResidentImages, dataset: ImageDataset, batches: TrainBatches | EvalBatches) -> None:
        self.images, self.batches = images, batches
        self.augment, self.seed = dataset.augment, dataset.seed

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.batches:
            yield self._batch(np.array(keys, np.int64).reshape(-1, 3))

    def _batch(self, keys: np.ndarray) -> Batch:
        sizes = self.images.sizes[keys[:, 1]]
        readable = sizes[:, 0] > 0
        unreadable, keys, sizes = keys[~readable, 1], keys[readable], sizes[readable]
        crop, indices = self.augment.crop, torch.from_numpy(keys[:, 1].copy())
        images = empty_images(0, crop.size, self.images.device)
        if len(keys):
            views = self.augment.views(self.seed, keys, sizes)
            images = self.images.crop(keys[:, 1], views, crop.size, crop.interpolation)
        self.augment.transform(self.seed, keys, images)
        targets = self.images.targets[indices.to(self.images.device)]
        return Batch(images, targets, indices, torch.from_numpy(unreadable.copy()))


def _pixels(dataset: ImageDataset, index: int) -> Tensor:
    """(3, H, W); (3, 0, 0) where the image can't be read and that is to be skipped."""
    try:
        return dataset.pixels(index)
    except UnreadableImage:
        if not dataset.skip:
            raise
        return torch.empty(3, 0, 0, dtype=torch.uint8)


def check_memory(needed: int, device: torch.device, images: int) -> None:
    """Raises ValueError where the device has less than `needed` bytes free."""
    free = free_memory(device)
    if free is not None and needed > free:
        raise ValueError(
            f"data.resident=true: {images} images need {needed >> 20} MB and {device} has {free >> 20} MB free: "
            "leave it out, or pack the data smaller first (scripts/pack.py format=raw long_side=...)"
        )


def free_memory(device: torch.device) -> int | None:
    """In bytes; None where there is no telling."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    told = Path("/proc/meminfo")
    available = re.search(r"MemAvailable: +(\d+) kB", told.read_text()) if told.exists() else None
    return int(available[1]) * 1024 if available else None
