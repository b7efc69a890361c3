"""The sizes of growing images, and that every loader gives them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fovea.data.index import Index
from fovea.data.loading import samples
from fovea.data.loading.batch_samplers import TrainBatchSampler
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.device_decode import DeviceDecodeLoader
from fovea.data.loading.loader import BatchLoader
from fovea.data.loading.resident import ResidentImages, ResidentLoader
from fovea.data.loading.samplers import Shuffled
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop, Crop, PaddedCrop, RandomResizedCrop, with_size
from fovea.data.pixels.decode import decode_image_bytes
from fovea.data.progressive import Progression, image_sizes

CPU = torch.device("cpu")


def test_sizes_are_those_of_ffcv() -> None:
    """Its formula, from https://github.com/libffcv/ffcv-imagenet, for a ramp from epoch 0 to 75."""
    size = Progression(160, 192 + 64, 75, 32)
    for epoch in range(90):
        interpolated = np.interp([epoch], [0, 75], [160, 256])
        assert size(epoch) == int(np.round(interpolated[0] / 32)) * 32
    assert sorted({*size.of_epochs()}) == [160, 192, 224, 256]


def test_sizes_begin_at_the_start_never_fall_and_end_at_the_full_size() -> None:
    for start, full, epochs, step in ((20, 32, 7, 4), (100, 224, 3, 32), (31, 32, 1, 32), (128, 224, 50, 10)):
        sizes = [Progression(start, full, epochs, step)(epoch) for epoch in range(epochs + 3)]
        assert sizes[0] == start
        assert sizes == sorted(sizes)
        assert sizes[epochs:] == [full] * 3
        assert all((size - start) % step == 0 or size == full for size in sizes)


def test_without_a_start_images_do_not_grow_and_impossible_sizes_are_refused() -> None:
    assert image_sizes(None, 224) is None
    assert image_sizes({"start": None, "epochs": None, "step": 32}, 224) is None
    for start, epochs, step in ((224, 3, 32), (0, 3, 32), (128, 0, 32), (128, 3, 0)):
        with pytest.raises(ValueError, match=f"start={start}.*full=224.*epochs={epochs}.*step={step}"):
            image_sizes({"start": start, "epochs": epochs, "step": step}, 224)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{i}.{'jpg' if i % 3 else 'png'}") for i in range(9)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 255, (20 + i, 44 - i, 3), dtype=np.uint8)).save(path)
    return Index(paths, torch.arange(9) % 3)


def growing(crop: Crop) -> Augment:
    augment = Augment(crop)
    augment.size_at = Progression(8, 16, 2, 4)
    return augment


def decode(files: list[Tensor]) -> list[Tensor]:
    return [decode_image_bytes(file.numpy().tobytes()) for file in files]


def same(first: list[Batch], second: list[Batch]) -> bool:
    return all(torch.equal(a, b) for one, two in zip(first, second, strict=True) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("kind", ["alone", "workers", "resident", "device"])
def test_each_epoch_of_every_loader_equals_that_of_a_crop_of_its_size(index: Index, kind: str) -> None:
    dataset = ImageDataset(index, growing(RandomResizedCrop(16, draft=0)), seed=5)
    sizes = Progression(4, 2, 1, 2)  # fewer, larger images
    batches = TrainBatchSampler(Shuffled(index), sizes, seed=0)
    loader = {
        "alone": lambda: BatchLoader(dataset, batches, 0),
        "workers": lambda: BatchLoader(dataset, batches, 2, persistent=True),
        "resident": lambda: ResidentLoader(ResidentImages(dataset, CPU), dataset, batches),
        "device": lambda: DeviceDecodeLoader(dataset, batches, 0, CPU, decode=decode),
    }[kind]()
    for epoch, size in enumerate((8, 12, 16, 16)):
        fixed = ImageDataset(index, Augment(RandomResizedCrop(size, draft=0)), seed=5)
        for first in (0, 1):
            batches.start_at(epoch, first)
            got = [Batch(*(tensor.clone() for tensor in batch)) for batch in loader]  # type: ignore[attr-defined]
            assert got[0].images.shape == (sizes(epoch), 3, size, size)
            assert same(got, list(BatchLoader(fixed, batches, 0)))


def test_an_image_of_several_epochs_is_shown_at_each_size(index: Index) -> None:
    images = samples.as_trained(ImageDataset(index, growing(RandomResizedCrop(16))), 1, 3, 100)
    assert [tuple(image.shape) for image in images] == [(3, 8, 8), (3, 12, 12), (3, 16, 16)]


def test_a_crop_of_another_size_keeps_its_other_options_and_a_center_crop_its_share() -> None:
    center, padded = with_size(CenterCrop(16, 20), 8), with_size(PaddedCrop(16, 4, 0.25), 8)
    assert (center.size, vars(center)["resize"]) == (8, 10)
    assert vars(padded) == vars(PaddedCrop(8, 4, 0.25))
    crop = CenterCrop(16, 20)
    assert with_size(crop, 16) is crop
