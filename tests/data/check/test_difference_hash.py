import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.data.check.difference_hash import COLUMNS, MARGIN, ROWS, difference_hashes, gray_copy


def picture(seed: int, width: int = 300, height: int = 200) -> Image.Image:
    """A smooth picture of random colors, with some noise."""
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noise = rng.integers(-6, 7, (height, width, 3))
    return Image.fromarray((np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8))


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def hashed(image: Image.Image) -> int:
    return int(difference_hashes(gray_copy(pixels(image))[None])[0])


def bits_that_differ(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def of_the_source(image: Image.Image) -> int:
    """Krawetz's hash: shrunk to 9 x 8 gray pixels, a bit for each one that is brighter than its left neighbour."""
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), int)
    return sum(1 << n for n, bit in enumerate((small[:, 1:] > small[:, :-1]).ravel().tolist()) if bit)


def test_the_bits_are_those_of_a_plain_loop() -> None:
    copies = np.random.default_rng(0).integers(0, 256, (5, ROWS, COLUMNS), dtype=np.uint8)
    for copy, found in zip(copies, difference_hashes(copies).tolist(), strict=True):
        expected = 0
        for row in range(8):
            cells = [copy[2 * row : 2 * row + 2, 2 * c : 2 * c + 2].mean() for c in range(9)]
            expected += sum(1 << (8 * row + c) for c in range(8) if cells[c + 1] - cells[c] > MARGIN)
        assert found == expected
    assert difference_hashes(copies[:0]).shape == (0,)


def test_the_hash_is_close_to_that_of_its_source_and_far_from_other_images() -> None:
    images = [picture(seed) for seed in range(20)]
    own = [bits_that_differ(hashed(image), of_the_source(image)) for image in images]
    others = [bits_that_differ(hashed(a), hashed(b)) for a, b in pairwise(images)]
    assert np.mean(own) < 5
    assert 24 < np.mean(others) < 40


@pytest.mark.parametrize("size", [(150, 100), (64, 43), (600, 400)])
def test_a_resized_and_encoded_copy_has_nearly_the_same_hash_and_gray_copy(size: tuple[int, int]) -> None:
    for seed in range(5):
        image, file = picture(seed), io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=50)
        copy = Image.open(file)
        assert bits_that_differ(hashed(image), hashed(copy)) <= 3
        difference = gray_copy(pixels(image)).astype(int) - gray_copy(pixels(copy))
        assert np.abs(difference).mean() < 3


def test_noise_in_an_even_area_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    even = [Image.fromarray((250 + rng.integers(-2, 3, (90, 90, 3))).astype(np.uint8)) for _ in range(2)]
    assert hashed(even[0]) == hashed(even[1]) == 0


def test_the_thinnest_images_have_a_gray_copy() -> None:
    assert gray_copy(torch.full((3, 1, 300), 7, dtype=torch.uint8)).tolist() == [[7] * COLUMNS] * ROWS
    assert gray_copy(torch.full((3, 1, 1), 255, dtype=torch.uint8)).min() == 255
