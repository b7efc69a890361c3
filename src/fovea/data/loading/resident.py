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
    """N images of up to H x W pixels on a device.

    Attributes:
        pixels: (N, H + 2M, W + 2M) int32, each element a pixel: red, green, blue and a zero byte. An image begins at
            row M and column M; all around is black, for crops that reach over an edge.
        margin: M.
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
        images = decode_all(dataset, device, threads)
        self.sizes = np.array([image.shape[1:] for image in images])  # (N, 2)
        self.margin = self._margin_for(dataset.augment.crop)
        self.pixels = self._placed(images)
        self.targets = dataset.index.labels(torch.arange(len(images))).to(device)
        log.info("%d images, %d MB, are kept on %s", len(images), self.pixels.nbytes >> 20, device)

    def _placed(self, images: Sequence[Tensor]) -> Tensor:
        """`pixels` of decoded images (3, H, W)."""
        height, width = self.sizes.max(axis=0).tolist()
        shape = (len(images), height + 2 * self.margin, width + 2 * self.margin, PIXEL)
        check_memory(math.prod(shape), self.device, len(images))
        pixels = torch.zeros(shape, dtype=torch.uint8)
        for canvas, image in zip(pixels, images, strict=True):
            inside = canvas[self.margin :, self.margin :]
            inside[: image.shape[1], : image.shape[2], :3] = image.permute(1, 2, 0)
        return pixels.view(torch.int32)[..., 0].to(self.device)

    def crop(self, rows: np.ndarray, views: np.ndarray, size: int, interpolation: str) -> Tensor:
        """(B, 3, size, size) uint8 of the images in `rows` (B,), as `views` (B, 9) show them."""
        if unresized(views).all():
            return self._windows(rows, views, size)
        out, margin = empty_images(len(rows), size, self.device), self.margin
        for row, view, square in zip(rows.tolist(), views.tolist(), out, strict=True):
            image = colours(self.pixels[row, margin:, margin:]).permute(2, 0, 1)
            render(image, View._make(view), interpolation, square)
        return out

    def _windows(self, rows: np.ndarray, views: np.ndarray, size: int) -> Tensor:
        """(B, 3, size, size) of views that resize nothing: one indexing operation copies all of them."""
        self._widen_margin(pixels_over_the_edge(views, self.sizes[rows], size))
        corners = corners_of(views) + self.margin
        squares = self._every_window(size)[
            self._indices(rows), self._indices(corners[:, 0]), self._indices(corners[:, 1])
        ]
        mirrored = self._indices(views[:, 8].nonzero()[0])
        squares[mirrored] = squares[mirrored].flip(2)
        return colours(squares).permute(0, 3, 1, 2)

    def _every_window(self, size: int) -> Tensor:
        """(N, top, left, size, size): every window of every image, as a view of `pixels` that copies nothing."""
        (n, height, width), (image, row, pixel) = self.pixels.shape, self.pixels.stride()
        shape = (n, height - size + 1, width - size + 1, size, size)
        return self.pixels.as_strided(shape, (image, row, pixel, row, pixel))

    def _indices(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _margin_for(self, crop: Crop) -> int:
        """How far over an edge the smallest and the largest draws of a crop reach, where they resize nothing."""
        readable = self.sizes[self.sizes[:, 0] > 0]
        if not len(readable):
            return 0
        views = [crop(readable, np.full((len(readable), crop.draws), draw)) for draw in (0.0, 1 - 2**-53)]
        return max(pixels_over_the_edge(view, readable, crop.size) for view in views)

    def _widen_margin(self, margin: int) -> None:
        """Make the margin at least this wide, for crops of another augmentation."""
        if margin > self.margin:
            self.pixels = F.pad(self.pixels, [margin - self.margin] * 4)
            self.margin = margin


def decode_all(dataset: ImageDataset, device: torch.device, threads: int) -> list[Tensor]:
    """The dataset's images (3, H, W) on the CPU.

    Raises:
        ValueError: the first ones show that all need more memory than the device or this machine has.
    """
    with ThreadPoolExecutor(max(1, threads)) as pool:

        def decode(indices: Sequence[int]) -> list[Tensor]:
            return list(pool.map(lambda index: _pixels(dataset, index), indices))

        first = decode(range(min(SAMPLE, len(dataset))))
        expected = sum(image[0].numel() for image in first) * PIXEL * len(dataset) // len(first)
        check_memory(expected, device, len(dataset))
        check_memory(2 * expected, torch.device("cpu"), len(dataset))  # as decoded, and in `pixels`
        return first + decode(range(len(first), len(dataset)))


def unresized(views: np.ndarray) -> np.ndarray:
    """(B,) whether each of `views` (B, 9) leaves its image's size as it is."""
    return (views[:, 2:4] == views[:, 4:6]).all(axis=1)


def corners_of(views: np.ndarray) -> np.ndarray:
    """(B, 2): the row and column of its image at which each window of `views` (B, 9), which resize nothing, begins."""
    return views[:, :2] + views[:, 6:8]


def pixels_over_the_edge(views: np.ndarray, sizes: np.ndarray, size: int) -> int:
    """By how many pixels windows of `views` (B, 9) that resize nothing lie outside their images of `sizes` (B, 2)."""
    kept = unresized(views)
    start = corners_of(views[kept])
    return int(max(0, (-start).max(initial=0), (start + size - sizes[kept]).max(initial=0)))


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
