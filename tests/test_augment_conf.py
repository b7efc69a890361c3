"""Every yaml of conf/augment makes a square uint8 image of any image."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor
from torchvision.transforms.v2 import Compose
from torchvision.transforms.v2 import functional as F

CONF = Path(__file__).resolve().parents[1] / "conf" / "augment"
NAMES = ["crop", "none", "rand_augment", "shift", "standard", "trivial_augment"]
SIZES = [(8, 8), (500, 37), (37, 500), (480, 640)]


@pytest.fixture(autouse=True)
def resize_for() -> Iterator[None]:
    """The config's own resolver, without importing the config."""
    OmegaConf.register_new_resolver("resize_for", lambda size: round(size / 0.875), replace=True)
    yield
    OmegaConf.clear_resolver("resize_for")


def build(name: str, image_size: int) -> dict[str, Compose]:
    config = OmegaConf.merge({"data": {"image_size": image_size}}, {"augment": OmegaConf.load(CONF / f"{name}.yaml")})
    steps = instantiate(config.augment)
    assert set(steps) == {"train", "eval"}
    return {split: Compose(list(steps[split])) for split in steps}


def image(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_every_yaml_is_tried() -> None:
    assert sorted(file.stem for file in CONF.glob("*.yaml")) == NAMES


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_any_size_becomes_a_square_of_uint8(name: str, size: tuple[int, int]) -> None:
    for transform in build(name, image_size=32).values():
        for _ in range(5):
            output = transform(image(*size))
            assert output.shape == (3, 32, 32)
            assert output.dtype == torch.uint8


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_the_middle_and_always_the_same(name: str) -> None:
    """At 224 the ImageNet way takes 224 of 256 pixels; the others take all of the short side."""
    short = 256 if name in ("standard", "rand_augment", "trivial_augment") else 224
    picture = image(300, 400)
    expected = F.center_crop(F.resize(picture, [short], antialias=True), [224])
    transform = build(name, image_size=224)["eval"]
    assert torch.equal(transform(picture), expected)
    assert torch.equal(transform(picture), expected)


@pytest.mark.parametrize("name", NAMES)
def test_training_is_random_except_with_none(name: str) -> None:
    transform = build(name, image_size=32)["train"]
    torch.manual_seed(0)
    outputs = {transform(image(40, 50)).numpy().tobytes() for _ in range(8)}
    assert len(outputs) == 1 if name == "none" else len(outputs) > 1


@pytest.mark.parametrize("name", ["shift", "none"])
def test_digits_are_never_mirrored(name: str) -> None:
    """A bright left half stays on the left; an upright image never becomes its mirror image."""
    picture = torch.zeros(3, 32, 32, dtype=torch.uint8)
    picture[:, :, :12] = 255
    torch.manual_seed(0)
    transform = build(name, image_size=32)["train"]
    assert all(output[:, :, :16].sum() > output[:, :, 16:].sum() for output in (transform(picture) for _ in range(30)))


def test_crop_moves_an_image_of_the_right_size_by_up_to_four_pixels() -> None:
    picture = image(32, 32)
    padded = F.pad(picture, [4])
    windows = {padded[:, y : y + 32, x : x + 32].numpy().tobytes() for y in range(9) for x in range(9)}
    windows |= {padded[:, y : y + 32, x : x + 32].flip(2).numpy().tobytes() for y in range(9) for x in range(9)}
    transform = build("crop", image_size=32)["train"]
    assert all(transform(picture).numpy().tobytes() in windows for _ in range(30))
