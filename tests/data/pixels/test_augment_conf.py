"""Every yaml of conf/augment turns any image into a square uint8 image."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conf_groups import GROUPS, composed
from hydra.utils import instantiate
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import View
from fovea.data.pixels.render import render

OURS = ["crop", "none", "rand_augment", "shift", "standard", "trivial_augment"]
SIZES = [(8, 8), (500, 37), (37, 500), (480, 640)]


def build(name: str, image_size: int) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Return each split's augmentation as a function (image, epoch) -> image."""
    config = composed(f"augment={name}", f"data.image_size={image_size}")
    augments = instantiate(config.augment, _convert_="all")
    assert set(augments) == {"train", "eval"}
    return {split: transform(augment) for split, augment in augments.items()}


def transform(augment: Augment) -> Callable[[Tensor, int], Tensor]:
    def apply(image: Tensor, epoch: int = 0) -> Tensor:
        key = np.array([[epoch, 0, 0]])
        (view,) = augment.views(0, key, np.array([image.shape[1:]])).tolist()
        out = torch.empty(1, 3, augment.crop.size, augment.crop.size, dtype=torch.uint8)
        render(image, View._make(view), augment.crop.interpolation, out[0])
        augment.transform(0, key, out)
        return out[0]

    return apply


def image(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", GROUPS["augment"])
def test_an_image_of_any_size_becomes_a_square_of_uint8(name: str) -> None:
    for apply in build(name, image_size=32).values():
        for size, epoch in itertools.product(SIZES, range(5)):
            output = apply(image(*size), epoch)
            assert output.shape == (3, 32, 32), size
            assert output.dtype == torch.uint8


@pytest.mark.parametrize("name", GROUPS["augment"])
def test_evaluation_is_not_random(name: str) -> None:
    apply, picture = build(name, image_size=32)["eval"], image(40, 50)
    assert torch.equal(apply(picture, 0), apply(picture, 1))


@pytest.mark.parametrize("name", OURS)
def test_evaluation_takes_the_center_of_the_image(name: str) -> None:
    """At 224 pixels the ImageNet augmentations crop 224 of 256 pixels; the others use the whole short side."""
    short = 256 if name in ("standard", "rand_augment", "trivial_augment") else 224
    picture = image(300, 400)
    expected = F.center_crop(F.resize(picture, [short], antialias=True), [224])
    apply = build(name, image_size=224)["eval"]
    assert torch.equal(apply(picture, 0), expected)


@pytest.mark.parametrize("name", OURS)
def test_training_is_random_except_with_none(name: str) -> None:
    apply = build(name, image_size=32)["train"]
    outputs = {apply(image(40, 50), epoch).numpy().tobytes() for epoch in range(8)}
    assert len(outputs) == 1 if name == "none" else len(outputs) > 1


@pytest.mark.parametrize("name", ["shift", "none"])
def test_digits_are_never_mirrored(name: str) -> None:
    """A bright left half stays on the left."""
    picture = torch.zeros(3, 32, 32, dtype=torch.uint8)
    picture[:, :, :12] = 255
    apply = build(name, image_size=32)["train"]
    for epoch in range(30):
        output = apply(picture, epoch)
        assert output[:, :, :16].sum() > output[:, :, 16:].sum()


def test_crop_moves_an_image_of_the_right_size_by_up_to_four_pixels() -> None:
    picture = image(32, 32)
    padded = F.pad(picture, [4])
    windows = {padded[:, y : y + 32, x : x + 32].numpy().tobytes() for y in range(9) for x in range(9)}
    windows |= {padded[:, y : y + 32, x : x + 32].flip(2).numpy().tobytes() for y in range(9) for x in range(9)}
    apply = build("crop", image_size=32)["train"]
    assert all(apply(picture, epoch).numpy().tobytes() in windows for epoch in range(30))
