"""Every yaml of conf/augment turns any image into a square uint8 image."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from conf_groups import GROUPS, composed
from hydra.utils import instantiate
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import View
from fovea.data.pixels.render import render
from fovea.data.random_numbers import derive_seed

ON_STANDARD = ["rand_augment", "trivial_augment", "auto_augment", "augmix", "three_augment", "color", "light", "strong"]
OURS = ["crop", "none", "shift", "standard", *ON_STANDARD]
SIZES = [(8, 8), (500, 37), (37, 500), (480, 640)]


def build(name: str, image_size: int) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Return each split's augmentation as a function (image, epoch) -> image."""
    config = composed(f"augment={name}")
    config.data.image_size = image_size
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
        for picture, epoch in itertools.product([image(*size) for size in SIZES], range(3)):
            output = apply(picture, epoch)
            assert output.shape == (3, 32, 32), picture.shape
            assert output.dtype == torch.uint8


@pytest.mark.parametrize("name", GROUPS["augment"])
def test_evaluation_is_not_random(name: str) -> None:
    apply, picture = build(name, image_size=32)["eval"], image(40, 50)
    assert torch.equal(apply(picture, 0), apply(picture, 1))


@pytest.mark.parametrize("name", OURS)
def test_evaluation_takes_the_center_of_the_image(name: str) -> None:
    """At 224 pixels the ImageNet augmentations crop 224 of 256 pixels; the others use the whole short side."""
    short = 256 if name in ("standard", *ON_STANDARD) else 224
    picture = image(300, 400)
    expected = F.center_crop(F.resize(picture, [short], antialias=True), [224])
    apply = build(name, image_size=224)["eval"]
    assert torch.equal(apply(picture, 0), expected)


@pytest.mark.parametrize("name", OURS)
def test_training_is_random_except_with_none(name: str) -> None:
    apply = build(name, image_size=32)["train"]
    outputs = {apply(image(40, 50), epoch).numpy().tobytes() for epoch in range(8)}
    assert len(outputs) == 1 if name == "none" else len(outputs) > 1


@pytest.mark.parametrize("name", GROUPS["augment"])
def test_training_and_evaluation_have_an_image_size_each(name: str) -> None:
    config = composed(f"augment={name}")
    config.data.image_size, config.data.eval_image_size = 24, 40
    augments = instantiate(config.augment, _convert_="all")
    assert (augments["train"].crop.size, augments["eval"].crop.size) == (24, 40)


def transforms_of(name: str) -> list[Callable[[Tensor], Tensor]]:
    return instantiate(composed(f"augment={name}").augment.train.transforms, _convert_="all")


BILINEAR = F.InterpolationMode.BILINEAR
PUBLISHED: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "rand_augment": [v2.RandAugment(2, 9, interpolation=BILINEAR)],
    "auto_augment": [v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, interpolation=BILINEAR)],
    "trivial_augment": [v2.TrivialAugmentWide(interpolation=BILINEAR)],
    "augmix": [v2.AugMix(3, 3, alpha=1.0, interpolation=BILINEAR)],
    "color": [  # of SimCLR, with a strength of 1
        v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], 0.5),
    ],
    "light": [v2.ColorJitter(0.2, 0.2, 0.2)],
    "strong": [v2.TrivialAugmentWide(interpolation=BILINEAR), v2.RandomErasing(0.1, value=[124, 116, 104])],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_image_is_changed_by_the_published_operations(name: str) -> None:
    """After the crop, by torchvision's with the same random numbers; most images are changed."""
    augment = instantiate(composed(f"augment={name}").augment.train, _convert_="all")
    changed = 0
    for index in range(20):
        out = image(40, 40)[None].clone()
        augment.transform(0, np.array([[0, index, 0]]), out)
        torch.manual_seed(derive_seed(0, 0, index, 0))
        expected = image(40, 40)
        for operation in PUBLISHED[name]:
            expected = operation(expected)
        assert torch.equal(out[0], expected)
        changed += not torch.equal(expected, image(40, 40))
    assert changed > 10


def test_three_augment_makes_an_image_gray_solarized_or_blurred_equally_often() -> None:
    """Pillow's operations are the reference; its blur is an approximation."""
    choose, jitter = transforms_of("three_augment")
    array = image(40, 50).permute(1, 2, 0).numpy()
    gray = Image.fromarray(array).convert("L").convert("RGB")
    solarized = ImageOps.solarize(Image.fromarray(array), 128)
    expected = torch.from_numpy(np.stack([np.array(gray), np.array(solarized)])).permute(0, 3, 1, 2)
    torch.manual_seed(0)
    counts = np.zeros(3)
    for _ in range(300):
        output = choose(image(40, 50)).float()
        kind = next((n for n in (0, 1) if (output - expected[n]).abs().max() <= 1), 2)
        counts[kind] += 1
        assert kind < 2 or output.std() <= image(40, 50).float().std()
    assert scipy.stats.chisquare(counts).pvalue > 0.001
    assert jitter.brightness == jitter.contrast == jitter.saturation == (0.7, 1.3)  # type: ignore[attr-defined]


def test_light_crops_less_than_standard() -> None:
    """The smallest of many crops has at least 0.35 of the image's area."""
    areas = {}
    for name in ("light", "standard"):
        augment = instantiate(composed(f"augment={name}").augment.train, _convert_="all")
        keys = np.stack([np.arange(2000), *np.zeros((2, 2000), int)], axis=1)
        views = augment.views(0, keys, np.full((2000, 2), 300))
        areas[name] = (views[:, 2] * views[:, 3]).min() / 300**2
    assert areas["light"] > 0.34
    assert areas["standard"] < 0.1


def test_strong_erases_rectangles_of_a_tenth_of_the_images() -> None:
    erase = transforms_of("strong")[-1]
    torch.manual_seed(0)
    erased = [out for _ in range(1000) if not torch.equal(out := erase(image(32, 32)), image(32, 32))]
    assert 70 < len(erased) < 130
    mean = torch.tensor([124, 116, 104], dtype=torch.uint8).view(3, 1, 1)
    shares = [(out == mean).all(0).float().mean().item() for out in erased]
    assert all(0.01 < share < 0.4 for share in shares)


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
