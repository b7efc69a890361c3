from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import CenterCrop, ColorJitter, Compose, PILToTensor, Resize

from fovea.data.index import Index
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop as Middle
from fovea.data.pixels.crop import RandomResizedCrop
from fovea.data.pixels.decode import UnreadableImage

AUGMENT = Augment(RandomResizedCrop(16), [ColorJitter(brightness=0.5)])


@pytest.fixture
def index(tmp_path: Path) -> Index:
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (20 + i, 24, 3), dtype=np.uint8)).save(tmp_path / f"é {i}.png")
    return Index([str(tmp_path / f"é {i}.png") for i in range(12)], torch.arange(12) % 3)


def test_augmentation_differs_between_epochs_and_is_reproducible(index: Index) -> None:
    data = ImageDataset(index, AUGMENT, seed=5)
    assert torch.equal(data[(0, 3, 0)][0], data[(0, 3, 0)][0])
    assert not torch.equal(data[(0, 3, 0)][0], data[(1, 3, 0)][0])
    assert not torch.equal(data[(0, 3, 0)][0], ImageDataset(index, AUGMENT, seed=6)[(0, 3, 0)][0])


def test_a_second_copy_of_an_image_in_an_epoch_is_augmented_differently(index: Index) -> None:
    batch = ImageDataset(index, AUGMENT).__getitems__([(0, 3, 0), (0, 3, 1)])
    assert not torch.equal(batch.images[0], batch.images[1])


def test_multilabel_targets_are_float_in_a_batch_and_int8_in_the_index(index: Index) -> None:
    several = Index(index.paths, torch.tensor([[1.0, 0.0, -1.0]] * 12))
    assert several.targets.dtype == torch.int8
    batch = ImageDataset(several, AUGMENT).__getitems__([(0, 3, 0)])
    assert batch.targets.dtype == torch.float32
    assert batch.targets.tolist() == [[1.0, 0.0, -1.0]]


def test_making_a_batch_does_not_change_torchs_generator(index: Index) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    ImageDataset(index, AUGMENT).__getitems__([(0, 1, 0), (0, 2, 0)])
    assert torch.equal(torch.rand(3), expected)


def test_an_item_equals_its_row_in_a_batch(index: Index) -> None:
    data = ImageDataset(index, AUGMENT, seed=5)
    batch = data.__getitems__([(0, 7, 0), (0, 2, 0), (0, 7, 0)])
    assert batch.images.dtype == torch.uint8
    for row, i in enumerate([7, 2, 7]):
        image, target = data[i]
        assert torch.equal(batch.images[row], image)
        assert batch.targets[row] == target


def test_an_unreadable_image_is_named_or_skipped_and_reported(index: Index) -> None:
    Path(index.paths[2]).write_bytes(b"no image")
    keys = [(0, i, 0) for i in range(4)]
    with pytest.raises(UnreadableImage, match="é 2.png"):
        ImageDataset(index, AUGMENT).__getitems__(keys)
    batch = ImageDataset(index, AUGMENT, on_error="skip").__getitems__(keys)
    assert batch.indices.tolist() == [0, 1, 3]
    assert batch.unreadable.tolist() == [2]
    assert batch.targets.tolist() == [0, 1, 0]
    assert len(batch.images) == 3


def test_an_empty_batch_has_the_right_shape(index: Index) -> None:
    batch = ImageDataset(index, AUGMENT).__getitems__([])
    assert batch.images.shape == (0, 3, 16, 16)


def test_normalize_matches_torchvisions_to_dtype_and_normalize() -> None:
    from torchvision.transforms.v2 import Compose, Normalize, ToDtype

    from fovea.data.pixels.normalize import Normalize as OwnNormalize

    images: Tensor = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = Compose([ToDtype(torch.float32, scale=True), Normalize(mean, std)])(images)
    torch.testing.assert_close(OwnNormalize(mean, std)(images), expected)
    assert not OwnNormalize(mean, std).state_dict()


@pytest.mark.parametrize("size", [(301, 203), (230, 500), (64, 48)])
def test_evaluation_pixels_match_torchvisions_reference_within_2_of_255(tmp_path: Path, size: tuple[int, int]) -> None:
    """torchvision's presets resize with PIL, which rounds differently; the mean difference is below 0.1."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    waves = np.stack([128 + 100 * np.sin(x / (9 + k)) * np.cos(y / (13 - k)) for k in range(3)], axis=-1)
    Image.fromarray(waves.astype(np.uint8)).save(tmp_path / "a.jpg", quality=90)
    reference = Compose([Resize(64), CenterCrop(56), PILToTensor()])
    expected = reference(Image.open(tmp_path / "a.jpg"))
    own, _ = ImageDataset(Index([str(tmp_path / "a.jpg")], torch.zeros(1)), Augment(Middle(56, 64)))[0]
    difference = (own.int() - expected.int()).abs()
    assert difference.max() <= 2
    assert difference.float().mean() < 0.1
