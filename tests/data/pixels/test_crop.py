"""Crops compared with torchvision's transforms of the same names."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop, PaddedCrop, RandomResizedCrop, View
from fovea.data.pixels.render import render

SIZES = [(375, 500), (500, 375), (40, 1000), (1000, 40), (7, 9), (224, 224)]


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Return a random image, channels-last in memory like those of decoders."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator).permute(2, 0, 1)


def draws(count: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, count))


def views(crop: RandomResizedCrop | CenterCrop | PaddedCrop, size: tuple[int, int], n: int) -> list[View]:
    rows = crop(np.tile(size, (n, 1)), draws(crop.draws, n))
    return [View._make(row) for row in rows.tolist()]


def rendered(crop: RandomResizedCrop | CenterCrop | PaddedCrop, image: torch.Tensor, view: View) -> torch.Tensor:
    out = torch.empty(3, crop.size, crop.size, dtype=torch.uint8)
    render(image, view, crop.interpolation, out)
    return out


@pytest.mark.parametrize("size", [(375, 500), (1000, 40), (7, 9)])
def test_area_ratio_and_position_have_torchvisions_distribution(size: tuple[int, int]) -> None:
    n, (height, width) = 1500, size
    own = views(RandomResizedCrop(32), size, n)
    torch.manual_seed(0)
    reference = v2.RandomResizedCrop(32)
    image = picture(*size)
    boxes = [reference.make_params([image]) for _ in range(n)]
    for name, of_view, of_box in (
        ("area", lambda v: v.height * v.width, lambda b: b["height"] * b["width"]),
        ("ratio", lambda v: math.log(v.width / v.height), lambda b: math.log(b["width"] / b["height"])),
        ("top", lambda v: v.top / height, lambda b: b["top"] / height),
        ("left", lambda v: v.left / width, lambda b: b["left"] / width),
    ):
        a, b = np.sort([of_view(v) for v in own]), np.sort([of_box(b) for b in boxes])
        spread = b.std() + 1e-9
        assert abs(a.mean() - b.mean()) < 5 * spread * math.sqrt(2 / n) + 1e-9, name  # five standard errors
        both = np.sort(np.concatenate([a, b]))
        distance = np.abs(np.searchsorted(a, both, "right") - np.searchsorted(b, both, "right")).max() / n
        assert distance < 1.95 * math.sqrt(2 / n), name  # Kolmogorov-Smirnov test at 0.1%


def test_half_of_the_crops_are_mirrored() -> None:
    assert abs(sum(view.flip for view in views(RandomResizedCrop(32), (50, 60), 4000)) / 4000 - 0.5) < 0.04
    assert not any(view.flip for view in views(RandomResizedCrop(32, flip=0.0), (50, 60), 100))
    assert all(view.flip for view in views(RandomResizedCrop(32, flip=1.0), (50, 60), 100))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_random_crop_matches_torchvisions_resized_crop_and_flip(size: tuple[int, int], interpolation: str) -> None:
    crop, image = RandomResizedCrop(32, interpolation=interpolation), picture(*size)
    for view in views(crop, size, 30):
        expected = F.resized_crop(
            image, view.top, view.left, view.height, view.width, [32, 32], v2.InterpolationMode(interpolation)
        )
        assert torch.equal(rendered(crop, image, view), F.horizontal_flip(expected) if view.flip else expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("out", "resize"), [(32, 37), (32, 32), (37, 32), (224, 256)])
def test_a_center_crop_matches_torchvisions_resize_and_crop(size: tuple[int, int], out: int, resize: int) -> None:
    crop, image = CenterCrop(out, resize), picture(*size)
    expected = F.center_crop(F.resize(image, [resize], antialias=True), [out, out])
    assert torch.equal(rendered(crop, image, views(crop, size, 1)[0]), expected)


@pytest.mark.parametrize("size", [(32, 32), (64, 48)])
def test_a_padded_crop_is_a_window_of_the_padded_image(size: tuple[int, int]) -> None:
    crop, image = PaddedCrop(32, padding=4), picture(*size)
    padded = F.pad(F.resize(image, [32], antialias=True), [4, 4, 4, 4])
    seen = set()
    for view in views(crop, size, 400):
        expected = padded[:, view.y + 4 : view.y + 36, view.x + 4 : view.x + 36]
        assert torch.equal(rendered(crop, image, view), expected.flip(-1) if view.flip else expected)
        seen.add((view.y, view.x))
    positions = padded.shape[1] - 31, padded.shape[2] - 31
    assert {y for y, _ in seen} == set(range(-4, positions[0] - 4))
    assert {x for _, x in seen} == set(range(-4, positions[1] - 4))


def test_the_views_of_a_batch_equal_those_of_single_images() -> None:
    crop, sizes = RandomResizedCrop(32), np.array(SIZES)
    together = crop(sizes, draws(crop.draws, len(SIZES)))
    alone = [crop(sizes[n : n + 1], draws(crop.draws, len(SIZES))[n : n + 1])[0] for n in range(len(SIZES))]
    assert np.array_equal(together, alone)


@pytest.mark.parametrize(
    "options", [{"scale": (0, 1)}, {"scale": (0.5, 0.2)}, {"ratio": (2, 1)}, {"interpolation": "nearest"}]
)
def test_invalid_options_are_an_error(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="augment crop"):
        RandomResizedCrop(32, **options)  # type: ignore[arg-type]


def test_a_transform_that_scales_or_reshapes_is_named() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    for step in (v2.ToDtype(torch.float32, scale=True), v2.Resize(4)):
        with pytest.raises(ValueError, match="transforms.*instead of uint8"):
            Augment(CenterCrop(8, 8), [step]).transform(0, np.zeros((2, 3), np.int64), images)
