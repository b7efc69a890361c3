"""A data loader that decodes and crops JPEGs on the training GPU with nvJPEG; workers only read files."""

import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovea.data.loading.batch_samplers import EvalBatchSampler, Key, TrainBatchSampler
from fovea.data.loading.dataset import CHUNK, Batch, ImageDataset, empty_images
from fovea.data.loading.loader import PREFETCH, identity
from fovea.data.loading.workers import ignore_signals, iterate_workers
from fovea.data.pixels.crop import View
from fovea.data.pixels.jpeg import Jpeg
from fovea.data.pixels.render import render

log = logging.getLogger(__name__)
DEVICE_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)  # RuntimeErrors that no file has caused
PROBE = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))
Decoder = Callable[[list[Tensor]], list[Tensor]]  # JPEGs as (L,) uint8 -> (3, H, W) uint8 on the device


@dataclass
class Encoded:
    """A worker's batch: encoded JPEGs, and finished squares of the images that the GPU cannot decode (PNG, EXIF, ...).

    Attributes:
        batch_keys: the keys of the whole batch, in order.
        keys: the keys of the J JPEGs.
        files: (T,) uint8, the concatenated JPEGs.
        lengths: their lengths in bytes.
        views: their views.
        other_keys: the keys of the other images.
        squares: (B - J, 3, S, S) uint8, the other images, decoded and augmented.
        unreadable: the indices of unreadable images.
    """

    batch_keys: Sequence[Key]
    keys: list[Key]
    files: Tensor
    lengths: list[int]
    views: list[View]
    other_keys: list[Key]
    squares: Tensor
    unreadable: list[int]

    def pin_memory(self) -> "Encoded":
        """Called by DataLoader's pinning thread; pins the squares, the only tensor copied to the device directly."""
        self.squares = self.squares.pin_memory()
        return self


class Reader(Dataset[Any]):
    """The dataset of a worker: it reads files and decodes only images that are not JPEGs."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, keys: Sequence[Key]) -> Encoded:
        data = self.dataset
        unreadable: list[int] = []
        opened = data.open(keys, unreadable)
        jpegs = [(key, image) for key, image in opened if isinstance(image, Jpeg) and image.frame.orientation == 1]
        jpeg_keys = dict(jpegs)
        others = [(key, image) for key, image in opened if key not in jpeg_keys]
        squares = empty_images(len(others), data.augment.crop_for(keys).size)
        kept = data.render_all(others, squares, unreadable)
        squares = squares[: len(kept)]
        data.transform(kept, squares)
        return Encoded(
            batch_keys=keys,
            keys=[*jpeg_keys],
            files=torch.tensor(np.frombuffer(b"".join(image.data for _, image in jpegs), np.uint8)),
            lengths=[len(image.data) for _, image in jpegs],
            views=data.views(jpegs),
            other_keys=kept,
            squares=squares,
            unreadable=unreadable,
        )


class DeviceDecodeLoader:
    """Yields batches that are on the device already."""

    def __init__(
        self,
        dataset: ImageDataset,
        batches: TrainBatchSampler | EvalBatchSampler,
        num_workers: int,
        device: torch.device,
        persistent: bool = False,
        decode: Decoder | None = None,
    ) -> None:
        """`decode` is nvJPEG by default."""
        self.dataset, self.batches, self.device = dataset, batches, device
        self.decode = decode or nvjpeg(device)
        self.failed = 0
        self.workers: DataLoader[Encoded] = DataLoader(
            Reader(dataset),
            batch_sampler=batches,
            collate_fn=identity,
            worker_init_fn=ignore_signals,
            num_workers=num_workers,
            prefetch_factor=PREFETCH if num_workers else None,
            pin_memory=device.type == "cuda",
            persistent_workers=persistent and num_workers > 0,
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for encoded in iterate_workers(self.workers):
            yield self._batch(encoded)

    def _batch(self, encoded: Encoded) -> Batch:
        data, unreadable = self.dataset, list(encoded.unreadable)
        jpeg_keys, jpegs = self._render_jpegs(encoded, unreadable)
        images = torch.cat([jpegs, encoded.squares.to(self.device, non_blocking=True)])
        keys, position = [*jpeg_keys, *encoded.other_keys], {key: n for n, key in enumerate(encoded.batch_keys)}
        order = sorted(range(len(keys)), key=lambda n: position[keys[n]])
        images = images[order].contiguous(memory_format=torch.channels_last)
        batch = data.batch(images, [keys[n] for n in order], unreadable)
        return batch._replace(targets=batch.targets.to(self.device, non_blocking=True))

    def _render_jpegs(self, encoded: Encoded, unreadable: list[int]) -> tuple[list[Key], Tensor]:
        """Decode, crop and transform the JPEGs: the keys of the readable ones, and squares (J, 3, S, S)."""
        data, keys = self.dataset, list[Key]()
        squares = empty_images(len(encoded.keys), data.augment.crop_for(encoded.batch_keys).size, self.device)
        jpegs = zip(encoded.keys, encoded.files.split(encoded.lengths), encoded.views, strict=True)
        for chunk in iter(lambda: list(islice(jpegs, CHUNK)), []):
            decoded = self._decode([file for _, file, _ in chunk])
            for (key, file, view), pixels in zip(chunk, decoded, strict=True):
                with data.skip_unreadable(key[1], unreadable):
                    image = pixels if pixels is not None else data.decode(key[1], file.numpy().tobytes())
                    render(image.to(self.device), view, data.augment.crop.interpolation, squares[len(keys)])
                    keys.append(key)
        squares = squares[: len(keys)]
        data.transform(keys, squares)
        return keys, squares

    def _decode(self, files: list[Tensor]) -> list[Tensor | None]:
        """Decode each file on the device to (3, H, W) uint8; None for files that it cannot decode."""
        try:
            return [*self.decode(files)]
        except DEVICE_ERRORS:
            raise
        except RuntimeError as error:  # one bad file makes the whole call fail, so decode them one by one
            if len(files) > 1:
                return [self._decode([file])[0] for file in files]
            self.failed += 1
            if self.failed == 1:
                log.warning("the GPU cannot decode a file; the CPU decodes it and all later ones like it (%s)", error)
            return [None]


def nvjpeg(device: torch.device) -> Decoder:
    """Return TorchCodec's nvJPEG decoder, or torchvision's if TorchCodec has none or cannot be loaded.

    Raises:
        ValueError: the device is not a GPU, or neither library was built with nvJPEG.
    """
    if device.type != "cuda":
        raise ValueError(f"data.decode=cuda: the training runs on {device}: set data.decode=cpu or trainer=gpu")
    probe, reasons = torch.frombuffer(bytearray(PROBE), dtype=torch.uint8), []
    for library in ("torchcodec.decoders", "torchvision.io"):
        try:
            decode: Decoder = partial(importlib.import_module(library).decode_jpeg, mode="RGB", device=device)
            decode([probe])
            return decode
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            reasons.append(f"{library}: {' '.join(str(error).split())[:200]}")
    message = f"data.decode=cuda: no library can decode JPEGs on {device}: set data.decode=cpu"
    raise ValueError("\n".join([message, *reasons]))
