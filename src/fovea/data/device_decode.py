"""JPEGs decoded and cropped on the GPU that trains (nvJPEG): workers only read files."""

import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovea.data.crop import View
from fovea.data.dataset import Batch, ImageDataset, empty_images
from fovea.data.jpeg import Jpeg
from fovea.data.loader import PREFETCH, as_it_is, from_workers
from fovea.data.render import render
from fovea.data.sampler import EvalBatches, Key, TrainBatches

log = logging.getLogger(__name__)
PROBE = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))
Decoder = Callable[[list[Tensor]], list[Tensor]]  # JPEGs as (L,) uint8 -> (3, H, W) uint8 on the device


@dataclass
class Encoded:
    """A batch as a worker leaves it: JPEGs as they are; squares of what isn't for the GPU (PNG, turned by EXIF, ...).

    Attributes:
        asked: the keys of the whole batch.
        files: (T,) uint8, the JPEGs one after the other.
        lengths: of each of the J JPEGs.
        views: theirs.
        keys: of the JPEGs.
        rest: the other images, all done.
        order: (B,), the JPEGs and then the others in the order of the batch.
        left_out: indices of what can't be read.
    """

    asked: Sequence[Key]
    files: Tensor
    lengths: list[int]
    views: list[View]
    keys: list[Key]
    rest: Batch
    order: list[int]
    left_out: list[int]

    def pin_memory(self) -> "Encoded":
        """Called by DataLoader's thread that pins: only the squares go to the device as they are."""
        self.rest = self.rest._replace(images=self.rest.images.pin_memory())
        return self


class Reader(Dataset[Any]):
    """What a worker holds."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, keys: Sequence[Key]) -> Encoded:
        left_out: list[int] = []
        opened = self.dataset.open(keys, left_out)
        jpegs = [
            (key, image.data, view)
            for (key, image), view in zip(opened, self.dataset.views(opened), strict=True)
            if isinstance(image, Jpeg) and image.frame.orientation == 1
        ]
        of_jpegs = [key for key, _, _ in jpegs]
        others = [key for key, _ in opened if key not in set(of_jpegs)]
        rest = self.dataset.fill(others, empty_images(len(others), self.dataset.augment.crop.size))
        unreadable = set(rest.unreadable.tolist())
        place = {key: n for n, key in enumerate(keys)}
        places = [place[key] for key in [*of_jpegs, *(key for key in others if key[1] not in unreadable)]]
        files = bytearray().join(data for _, data, _ in jpegs)
        return Encoded(
            asked=keys,
            files=torch.frombuffer(files, dtype=torch.uint8) if files else torch.empty(0, dtype=torch.uint8),
            lengths=[len(data) for _, data, _ in jpegs],
            views=[view for _, _, view in jpegs],
            keys=of_jpegs,
            rest=rest,
            order=np.argsort(places).tolist(),
            left_out=left_out + sorted(unreadable),
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
        self.workers: DataLoader[Encoded] = DataLoader(
            Reader(dataset),
            batch_sampler=batches,
            collate_fn=as_it_is,
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
        data = self.dataset
        squares = empty_images(len(encoded.keys), data.augment.crop.size, self.device)
        files = list(encoded.files.split(encoded.lengths))
        try:
            decoded = self.decode(files) if files else []
        except RuntimeError as error:  # one file spoils them all: the CPU says which, and what is to become of it
            return self._on_cpu(encoded.asked, error)
        for image, view, square in zip(decoded, encoded.views, squares, strict=True):
            render(image, view, data.augment.crop.interpolation, square)
        keys = np.array(encoded.keys, np.int64).reshape(-1, 3)
        data.augment.transform(data.seed, keys, squares)
        images = torch.cat([squares, encoded.rest.images.to(self.device, non_blocking=True)])[encoded.order]
        indices = torch.cat([torch.from_numpy(keys[:, 1].copy()), encoded.rest.indices])[encoded.order]
        return self._moved(images, indices, torch.tensor(encoded.left_out, dtype=torch.long))

    def _on_cpu(self, keys: Sequence[Key], error: RuntimeError) -> Batch:
        images, _, indices, unreadable = self.dataset.__getitems__(keys)
        log.warning("a batch was decoded on the CPU, for the GPU refused a file of it: %s", str(error).splitlines()[0])
        return self._moved(images, indices, unreadable)

    def _moved(self, images: Tensor, indices: Tensor, unreadable: Tensor) -> Batch:
        images = images.to(self.device, memory_format=torch.channels_last)
        return Batch(images, self.dataset.index.labels(indices).to(self.device), indices, unreadable)


def nvjpeg(device: torch.device) -> Decoder:
    """TorchCodec's, or torchvision's where TorchCodec doesn't go with this torch.

    Raises:
        ValueError: the device is no GPU, or neither library was built with nvJPEG.
    """
    if device.type != "cuda":
        raise ValueError(f"data.decode=cuda: the training runs on {device}: take data.decode=cpu, or trainer=gpu")
    try:
        library: Any = importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError):
        library = importlib.import_module("torchvision.io")
    decode = partial(library.decode_jpeg, mode="RGB", device=device)
    try:
        decode([torch.frombuffer(bytearray(PROBE), dtype=torch.uint8)])
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"data.decode=cuda: no JPEG can be decoded on {device} ({reason}): data.decode=cpu") from error
    return decode
