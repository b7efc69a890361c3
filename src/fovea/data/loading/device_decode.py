"""JPEGs decoded and cropped on the GPU that trains (nvJPEG): workers only read files."""

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

from fovea.data.loading.batch_samplers import EvalBatches, Key, TrainBatches
from fovea.data.loading.dataset import AT_ONCE, Batch, ImageDataset, empty_images
from fovea.data.loading.loader import PREFETCH, unchanged
from fovea.data.loading.workers import from_workers, leave_signals
from fovea.data.pixels.crop import View
from fovea.data.pixels.jpeg import Jpeg
from fovea.data.pixels.render import render

log = logging.getLogger(__name__)
NOT_OF_A_FILE = (torch.OutOfMemoryError, torch.AcceleratorError)  # the device's own faults
PROBE = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))
Decoder = Callable[[list[Tensor]], list[Tensor]]  # JPEGs as (L,) uint8 -> (3, H, W) uint8 on the device


@dataclass
class Encoded:
    """A batch as a worker leaves it: JPEGs as they are; squares of what isn't for the GPU (PNG, turned by EXIF, ...).

    Attributes:
        asked: the keys of the whole batch.
        keys: of the J JPEGs.
        files: (T,) uint8, the JPEGs one after the other.
        lengths: of each of them.
        views: theirs.
        other_keys: of the other images.
        squares: (B - J, 3, S, S) uint8, those images, all done.
        left_out: indices of what can't be read.
    """

    asked: Sequence[Key]
    keys: list[Key]
    files: Tensor
    lengths: list[int]
    views: list[View]
    other_keys: list[Key]
    squares: Tensor
    left_out: list[int]

    def pin_memory(self) -> "Encoded":
        """Called by DataLoader's thread that pins: only the squares go to the device as they are."""
        self.squares = self.squares.pin_memory()
        return self


class Reader(Dataset[Any]):
    """What a worker holds."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, keys: Sequence[Key]) -> Encoded:
        data = self.dataset
        left_out: list[int] = []
        opened = data.open(keys, left_out)
        jpegs = [(key, image) for key, image in opened if isinstance(image, Jpeg) and image.frame.orientation == 1]
        of_jpegs = dict(jpegs)
        others = [(key, image) for key, image in opened if key not in of_jpegs]
        squares = empty_images(len(others), data.augment.crop.size)
        kept = data.render_all(others, squares, left_out)
        squares = squares[: len(kept)]
        data.transform(kept, squares)
        return Encoded(
            asked=keys,
            keys=[*of_jpegs],
            files=torch.tensor(np.frombuffer(b"".join(image.data for _, image in jpegs), np.uint8)),
            lengths=[len(image.data) for _, image in jpegs],
            views=data.views(jpegs),
            other_keys=kept,
            squares=squares,
            left_out=left_out,
        )


class DeviceDecodeLoader:
    """Iterates over batches that are on the device already."""

    def __init__(
        self,
        dataset: ImageDataset,
        batches: TrainBatches | EvalBatches,
        num_workers: int,
        device: torch.device,
        persistent: bool = False,
        decode: Decoder | None = None,
    ) -> None:
        """`decode` is nvJPEG's unless given."""
        self.dataset, self.batches, self.device = dataset, batches, device
        self.decode = decode or nvjpeg(device)
        self.refused = 0
        self.workers: DataLoader[Encoded] = DataLoader(
            Reader(dataset),
            batch_sampler=batches,
            collate_fn=unchanged,
            worker_init_fn=leave_signals,
            num_workers=num_workers,
            prefetch_factor=PREFETCH if num_workers else None,
            pin_memory=device.type == "cuda",
            persistent_workers=persistent and num_workers > 0,
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for encoded in from_workers(self.workers):
            yield self._batch(encoded)

    def _batch(self, encoded: Encoded) -> Batch:
        data, left_out = self.dataset, list(encoded.left_out)
        squares = empty_images(len(encoded.keys), data.augment.crop.size, self.device)
        kept: list[Key] = []
        jpegs = zip(encoded.keys, encoded.files.split(encoded.lengths), encoded.views, strict=True)
        for some in iter(lambda: list(islice(jpegs, AT_ONCE)), []):
            decoded = self._decoded([file for _, file, _ in some])
            for (key, file, view), pixels in zip(some, decoded, strict=True):
                with data.leaving_out(key[1], left_out):
                    image = pixels if pixels is not None else data.decode(key[1], file.numpy().tobytes())
                    render(image.to(self.device), view, data.augment.crop.interpolation, squares[len(kept)])
                    kept.append(key)
        squares = squares[: len(kept)]
        data.transform(kept, squares)
        images = torch.cat([squares, encoded.squares.to(self.device, non_blocking=True)])
        keys, place = [*kept, *encoded.other_keys], {key: n for n, key in enumerate(encoded.asked)}
        order = sorted(range(len(keys)), key=lambda n: place[keys[n]])
        images = images[order].contiguous(memory_format=torch.channels_last)
        batch = data.batch(images, [keys[n] for n in order], left_out)
        return batch._replace(targets=batch.targets.to(self.device, non_blocking=True))

    def _decoded(self, files: list[Tensor]) -> list[Tensor | None]:
        """(3, H, W) uint8 of each file on the device; None of what it refuses."""
        try:
            return [*self.decode(files)]
        except NOT_OF_A_FILE:
            raise
        except RuntimeError as error:  # one spoils them all
            if len(files) > 1:
                return [self._decoded([file])[0] for file in files]
            self.refused += 1
            if self.refused == 1:
                log.warning("the GPU refuses a file, and any more like it: the CPU has the last word (%s)", error)
            return [None]


def nvjpeg(device: torch.device) -> Decoder:
    """TorchCodec's, or torchvision's where TorchCodec doesn't go with this torch, or has none.

    Raises:
        ValueError: the device is no GPU, or neither library was built with nvJPEG.
    """
    if device.type != "cuda":
        raise ValueError(f"data.decode=cuda: the training runs on {device}: take data.decode=cpu, or trainer=gpu")
    probe, reasons = torch.frombuffer(bytearray(PROBE), dtype=torch.uint8), []
    for library in ("torchcodec.decoders", "torchvision.io"):
        try:
            decode: Decoder = partial(importlib.import_module(library).decode_jpeg, mode="RGB", device=device)
            decode([probe])
            return decode
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            reasons.append(f"{library}: {' '.join(str(error).split())[:200]}")
    said = f"data.decode=cuda: no JPEG can be decoded on {device}: take data.decode=cpu"
    raise ValueError("\n".join([said, *reasons]))
