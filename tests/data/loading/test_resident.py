"""Images kept on the device compared with the same images read from files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import ColorJitter

from fovea.data.index import Index
from fovea.data.loading import resident
from fovea.data.loading.batch_samplers import TrainBatchSampler
from fovea.data.loading.dataset import ImageDataset
from fovea.data.loading.loader import BatchLoader
from fovea.data.loading.resident import ResidentImages, ResidentLoader
from fovea.data.loading.samplers import Shuffled
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop, Crop, PaddedCrop, RandomResizedCrop
from fovea.data.pixels.decode import UnreadableImage

CPU = torch.device("cpu")
CROPS = [RandomResizedCrop(16), CenterCrop(16, 20), PaddedCrop(16, 4), CenterCrop(24, 16)]


def index(folder: Path, same_size: bool) -> Index:
    rng = np.random.default_rng(0)
    for i in range(13):
        size = (16, 16, 3) if same_size else (14 + i, 40 - 2 * i, 3)
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(folder / f"{i}.png")
    return Index([str(folder / f"{i}.png") for i in range(13)], torch.arange(13) % 3)


@pytest.mark.parametrize("same_size", [True, False])
@pytest.mark.parametrize("crop", CROPS, ids=lambda crop: type(crop).__name__)
@pytest.mark.parametrize("transforms", [[], [ColorJitter(brightness=0.5)]], ids=["", "jitter"])
def test_resident_batches_equal_batches_read_from_files(
    tmp_path: Path, crop: Crop, same_size: bool, transforms: list[ColorJitter]
) -> None:
    dataset = ImageDataset(index(tmp_path, same_size), Augment(crop, transforms), seed=3)
    batches = TrainBatchSampler(Shuffled(dataset), 4, seed=0)
    batches.start_at(2, 1)
    own = list(ResidentLoader(ResidentImages(dataset, CPU, threads=2), dataset, batches))
    assert len(own) == 2
    for kept, read in zip(own, BatchLoader(dataset, batches, 0), strict=True):
        for a, b in zip(kept, read, strict=True):
            assert torch.equal(a, b)


def test_an_unreadable_image_is_named_or_skipped_and_reported(tmp_path: Path) -> None:
    images, augment = index(tmp_path, same_size=False), Augment(PaddedCrop(16))
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match="3.png"):
        ResidentImages(ImageDataset(images, augment), CPU)
    dataset = ImageDataset(images, augment, on_error="skip")
    batches = TrainBatchSampler(Shuffled(dataset), 13, seed=0)
    (batch,) = ResidentLoader(ResidentImages(dataset, CPU), dataset, batches)
    (read,) = BatchLoader(dataset, batches, 0)
    assert batch.unreadable.tolist() == [3]
    for a, b in zip(batch, read, strict=True):
        assert torch.equal(a, b)


def test_data_larger_than_the_memory_is_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "free_memory", lambda device: 1 << 10)
    dataset = ImageDataset(index(tmp_path, same_size=True), Augment(PaddedCrop(16)))
    with pytest.raises(ValueError, match="data.resident=true: 13 images.*scripts/pack.py"):
        ResidentImages(dataset, CPU)


def test_free_memory_is_a_plausible_number_if_it_is_known() -> None:
    free = resident.free_memory(CPU)
    assert free is None or free > 1 << 20


def test_the_margin_is_widened_for_a_crop_that_reaches_further(tmp_path: Path) -> None:
    images = index(tmp_path, same_size=True)
    whole = ImageDataset(images, Augment(CenterCrop(16, 16)))
    padded = ImageDataset(images, Augment(PaddedCrop(16, 4)))
    kept, batches = ResidentImages(whole, CPU), TrainBatchSampler(Shuffled(images), 13, seed=0)
    assert kept.margin == 0
    (batch,), (read,) = ResidentLoader(kept, padded, batches), BatchLoader(padded, batches, 0)
    assert kept.margin > 0
    assert torch.equal(batch.images, read.images)
