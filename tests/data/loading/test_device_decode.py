"""The loader that decodes on the device, tested on the CPU instead of a GPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import ColorJitter

from fovea.data.index import Index
from fovea.data.loading.batch_samplers import EvalBatchSampler, TrainBatchSampler
from fovea.data.loading.dataset import ImageDataset
from fovea.data.loading.device_decode import DeviceDecodeLoader, nvjpeg
from fovea.data.loading.loader import BatchLoader
from fovea.data.loading.samplers import Shuffled
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop, RandomResizedCrop
from fovea.data.pixels.decode import UnreadableImage, decode_image_bytes

CPU = torch.device("cpu")
AUGMENT = Augment(RandomResizedCrop(16, draft=0), [ColorJitter(brightness=0.5)])


def decode(files: list[Tensor]) -> list[Tensor]:
    """Stand-in for nvJPEG: fails for all files if one is damaged."""
    for file in files:
        if b"damaged" in file.numpy().tobytes():
            raise RuntimeError("nvjpeg: bad data")
    return [decode_image_bytes(file.numpy().tobytes()) for file in files]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Ten images: two PNGs and eight JPEGs, one of them rotated by EXIF."""
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    paths = [str(tmp_path / f"{i}.{'png' if i in (2, 5) else 'jpg'}") for i in range(10)]
    for i, path in enumerate(paths):
        image = Image.fromarray(rng.integers(0, 255, (20 + i, 44 - i, 3), dtype=np.uint8))
        image.save(path, exif=turned if i == 7 else Image.Exif())
    return Index(paths, torch.arange(10) % 3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_equal_those_of_the_cpu_loader(index: Index, num_workers: int) -> None:
    dataset = ImageDataset(index, AUGMENT, seed=5)
    batches = TrainBatchSampler(Shuffled(index), 4, seed=0)
    own = list(DeviceDecodeLoader(dataset, batches, num_workers, CPU, decode=decode))
    for a, b in zip(own, BatchLoader(dataset, batches, 0), strict=True):
        for one, other in zip(a, b, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("content", [b"no image", b"damaged"])
def test_an_unreadable_image_is_named_or_skipped_and_reported(
    index: Index, content: bytes, make_damaged: Callable[[str], None]
) -> None:
    if content == b"damaged":
        make_damaged(index.paths[3])
    else:
        Path(index.paths[3]).write_bytes(content)
    batches = EvalBatchSampler(10, 5)
    with pytest.raises(UnreadableImage, match="3.jpg"):
        list(DeviceDecodeLoader(ImageDataset(index, AUGMENT), batches, 0, CPU, decode=decode))
    dataset = ImageDataset(index, AUGMENT, on_error="skip")
    first, second = DeviceDecodeLoader(dataset, batches, 0, CPU, decode=decode)
    assert first.unreadable.tolist() == [3]
    assert first.indices.tolist() == [0, 1, 2, 4]
    assert second.indices.tolist() == [5, 6, 7, 8, 9]
    assert torch.equal(first.images, dataset.__getitems__([(0, i, 0) for i in (0, 1, 2, 4)]).images)


@pytest.fixture
def make_damaged() -> Callable[[str], None]:
    """Return a function that damages a JPEG inside, so that no decoder reads it."""

    def make(path: str) -> None:
        data = Path(path).read_bytes()
        tables = data.index(b"\xff\xc4")
        Path(path).write_bytes(data[: tables + 4] + b"damaged" + b"\xff" * 30 + data[tables + 41 :])

    return make


def test_a_batch_without_jpegs_and_a_rank_without_images_work(index: Index) -> None:
    pngs = index.take(torch.tensor([2, 5]))
    dataset = ImageDataset(pngs, Augment(CenterCrop(8, 8)))
    (batch,) = DeviceDecodeLoader(dataset, EvalBatchSampler(2, 4), 0, CPU, decode=decode)
    assert batch.images.shape == (2, 3, 8, 8)
    (empty,) = DeviceDecodeLoader(dataset, EvalBatchSampler(0, 4), 0, CPU, decode=decode)
    assert empty.images.shape == (0, 3, 8, 8)


def test_without_a_gpu_the_error_names_a_remedy() -> None:
    with pytest.raises(ValueError, match="data.decode=cuda.*data.decode=cpu"):
        nvjpeg(CPU)
