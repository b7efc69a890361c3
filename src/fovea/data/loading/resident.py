"""Keeps a whole split of decoded images on the device, so that training does not read, decode or copy any."""

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

from fovea.data.loading.batch_samplers import EvalBatchSampler, TrainBatchSampler
from fovea.data.loading.dataset import Batch, ImageDataset, empty_images
from fovea.data.pixels.crop import Crop, View
from fovea.data.pixels.decode import UnreadableImage
from fovea.data.pixels.render import render

log = logging.getLogger(__name__)
PIXEL = 4  # bytes
SAMPLE = 64  # images from which the memory for all images is estimated


class ResidentImages:
    """N images of up to H x W pixels on a device.

    Attributes:
        pixels: (N, H + 2M, W + 2M) int32, each element a pixel: red, green, blue and a zero byte. An image begins at
            row M and column M; the rest is black, for crops that reach across an edge.
        margin: M.
        index: the index of the split.
        sizes: (N, 2) int64, heights and widths; 0, 0 for unreadable images.
        targets: the targets of the split, on the device.
    """

    def __init__(self, dataset: ImageDataset, device: torch.device, threads: int = 1) -> None:
        """Decode every image of `dataset` with this many threads; images are augmented later.

        Raises:
            ValueError: the device has too little memory.
            UnreadableImage: an image cannot be read and the dataset's `on_error` is "raise".
        """
        self.index, self.device = dataset.index, device
        images = decode_all(dataset, device, threads)
        self.sizes = np.array([image.shape[1:] for image in images])  # (N, 2)
        self.margin = self._margin_for(dataset.augment.crop)
        self.pixels = self._to_device(images)
        self.targets = dataset.index.labels(torch.arange(len(images))).to(device)
        log.info("%d images, %d MB, are kept on %s", len(images), self.pixels.nbytes >> 20, device)

    def _to_device(self, images: Sequence[Tensor]) -> Tensor:
        """Copy decoded images (3, H, W) into one tensor `pixels` on the device."""
        height, width = self.sizes.max(axis=0).tolist()
        shape = (len(images), height + 2 * self.margin, width + 2 * self.margin, PIXEL)
        check_memory(math.prod(shape), self.device, len(images))
        pixels = torch.zeros(shape, dtype=torch.uint8)
        for canvas, image in zip(pixels, images, strict=True):
            inside = canvas[self.margin :, self.margin :]
            inside[: image.shape[1], : image.shape[2], :3] = image.permute(1, 2, 0)
        return pixels.view(torch.int32)[..., 0].to(self.device)

    def crop(self, rows: np.ndarray, views: np.ndarray, size: int, interpolation: str) -> Tensor:
        """Crop the images `rows` (B,) as `views` (B, 9) describe: (B, 3, size, size) uint8."""
        if is_unresized(views).all():
            return self._windows(rows, views, size)
        out, margin = empty_images(len(rows), size, self.device), self.margin
        for row, view, square in zip(rows.tolist(), views.tolist(), out, strict=True):
            image = rgb(self.pixels[row, margin:, margin:]).permute(2, 0, 1)
            render(image, View._make(view), interpolation, square)
        return out

    def _windows(self, rows: np.ndarray, views: np.ndarray, size: int) -> Tensor:
        """Crop views that do not resize, with a single indexing operation: (B, 3, size, size)."""
        self._widen_margin(pixels_outside(views, self.sizes[rows], size))
        corners = corners_of(views) + self.margin
        squares = self._all_windows(size)[
            self._indices(rows), self._indices(corners[:, 0]), self._indices(corners[:, 1])
        ]
        mirrored = self._indices(views[:, 8].nonzero()[0])
        squares[mirrored] = squares[mirrored].flip(2)
        return rgb(squares).permute(0, 3, 1, 2)

    def _all_windows(self, size: int) -> Tensor:
        """Return every window of every image, (N, top, left, size, size), as a strided view without copying."""
        (n, height, width), (image, row, pixel) = self.pixels.shape, self.pixels.stride()
        shape = (n, height - size + 1, width - size + 1, size, size)
        return self.pixels.as_strided(shape, (image, row, pixel, row, pixel))

    def _indices(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _margin_for(self, crop: Crop) -> int:
        """Return how far the crop reaches across an edge with the smallest and the largest random draws."""
        readable = self.sizes[self.sizes[:, 0] > 0]
        if not len(readable):
            return 0
        views = [crop(readable, np.full((len(readable), crop.draws), draw)) for draw in (0.0, 1 - 2**-53)]
        return max(pixels_outside(view, readable, crop.size) for view in views)

    def _widen_margin(self, margin: int) -> None:
        """Make the margin at least this wide, for the crops of another augmentation."""
        if margin > self.margin:
            self.pixels = F.pad(self.pixels, [margin - self.margin] * 4)
            self.margin = margin


def decode_all(dataset: ImageDataset, device: torch.device, threads: int) -> list[Tensor]:
    """Decode all images of the dataset to (3, H, W) on the CPU.

    Raises:
        ValueError: estimated from the first images, all need more memory than the device or this machine has.
    """
    with ThreadPoolExecutor(max(1, threads)) as pool:

        def decode(indices: Sequence[int]) -> list[Tensor]:
            return list(pool.map(lambda index: _pixels(dataset, index), indices))

        first = decode(range(min(SAMPLE, len(dataset))))
        expected = sum(image[0].numel() for image in first) * PIXEL * len(dataset) // len(first)
        check_memory(expected, device, len(dataset))
        check_memory(2 * expected, torch.device("cpu"), len(dataset))  # decoded images and a copy in `pixels`
        return first + decode(range(len(first), len(dataset)))


def is_unresized(views: np.ndarray) -> np.ndarray:
    """Return (B,) bool: whether each of `views` (B, 9) does not resize its box."""
    return (views[:, 2:4] == views[:, 4:6]).all(axis=1)


def corners_of(views: np.ndarray) -> np.ndarray:
    """Return the top left corners (row, column) (B, 2) of the windows in their images, for views that do not resize."""
    return views[:, :2] + views[:, 6:8]


def pixels_outside(views: np.ndarray, sizes: np.ndarray, size: int) -> int:
    """Return by how many pixels windows reach outside of images of `sizes` (B, 2); views that resize do not count."""
    unresized = is_unresized(views)
    start = corners_of(views[unresized])
    return int(max(0, (-start).max(initial=0), (start + size - sizes[unresized]).max(initial=0)))


def rgb(pixels: Tensor) -> Tensor:
    """View (...) int32 pixels as (..., 3) uint8 without copying."""
    return pixels[..., None].view(torch.uint8)[..., :3]


class ResidentLoader:
    """Yields batches of resident images: the same as a loader of files, but already on the device."""

    def __init__(
        self, images: ResidentImages, dataset: ImageDataset, batches: TrainBatchSampler | EvalBatchSampler
    ) -> None:
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
        crop, indices = self.augment.crop_for(keys), torch.from_numpy(keys[:, 1].copy())
        images = empty_images(0, crop.size, self.images.device)
        if len(keys):
            views = self.augment.views(self.seed, keys, sizes)
            images = self.images.crop(keys[:, 1], views, crop.size, crop.interpolation)
        self.augment.transform(self.seed, keys, images)
        targets = self.images.targets[indices.to(self.images.device)]
        return Batch(images, targets, indices, torch.from_numpy(unreadable.copy()))


def _pixels(dataset: ImageDataset, index: int) -> Tensor:
    """Decode an image to (3, H, W); (3, 0, 0) if it is unreadable and to be skipped."""
    try:
        return dataset.pixels(index)
    except UnreadableImage:
        if not dataset.skip:
            raise
        return torch.empty(3, 0, 0, dtype=torch.uint8)


def check_memory(needed: int, device: torch.device, images: int) -> None:
    """Raise ValueError if the device has less than `needed` bytes free."""
    free = free_memory(device)
    if free is not None and needed > free:
        raise ValueError(
            f"data.resident=true: {images} images need {needed >> 20} MB and {device} has {free >> 20} MB free: "
            "set data.resident=false, or pack the data smaller first (scripts/pack.py format=raw long_side=...)"
        )


def free_memory(device: torch.device) -> int | None:
    """Return the free memory in bytes; None if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    available = re.search(r"MemAvailable: +(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    return int(available[1]) * 1024 if available else None
