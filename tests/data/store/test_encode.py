import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import resize

from fovea.data.pixels.decode import UnreadableImage
from fovea.data.store.encode import Format, encode_image, shrink, upright_size

RAW = Format("raw", background=[255, 0, 0])
rng = np.random.default_rng(0)


def photo(height: int, width: int) -> Image.Image:
    """Return a smooth random image, like a photograph."""
    small = Image.fromarray(rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3)).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def file_of(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def raw(data: bytes, options: Format = RAW) -> np.ndarray:
    stored, size = encode_image(data, options, "x")
    return np.frombuffer(stored, np.uint8).reshape(*size, 3)


def test_files_are_stored_unchanged() -> None:
    data = file_of(photo(20, 30), "JPEG")
    assert encode_image(data, Format("files"), "x") == (data, (20, 30))


def test_raw_pixels_match_torchvisions_resize() -> None:
    image = photo(600, 800)
    own = raw(file_of(image, "PNG"), Format("raw", long_side=400, background=[0, 0, 0]))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert np.array_equal(own, resize(pixels, [300, 400], antialias=True).permute(1, 2, 0).numpy())


def test_a_jpeg_is_as_close_to_the_original_as_pils() -> None:
    image = photo(300, 640)
    data, size = encode_image(file_of(image, "PNG"), Format("jpeg", 150, None, 90, [0, 0, 0]), "x")
    again = Image.open(io.BytesIO(data))
    assert (again.format, again.size, size) == ("JPEG", (320, 150), (150, 320))
    resized = image.resize((320, 150), Image.Resampling.BILINEAR)
    reference = Image.open(io.BytesIO(file_of(resized, "JPEG", quality=90, subsampling="4:2:0")))
    assert difference(again, resized) < 1.1 * difference(reference, resized)


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.array(one).astype(int) - np.array(other)).mean())


def test_a_higher_quality_takes_more_bytes() -> None:
    data = file_of(photo(100, 100), "PNG")
    sizes = [len(encode_image(data, Format("jpeg", quality=q, background=[0, 0, 0]), "x")[0]) for q in (50, 90, 99)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("short", "long", "expected"),
    [(None, None, (90, 200)), (45, None, (45, 100)), (None, 50, (22, 50)), (45, 50, (22, 50)), (10, 190, (10, 22))],
)
def test_both_sides_can_be_limited(short: int | None, long: int | None, expected: tuple[int, int]) -> None:
    pixels = torch.zeros(3, 90, 200, dtype=torch.uint8)
    assert shrink(pixels, short, long).shape[1:] == expected
    assert shrink(pixels.mT, short, long).shape[1:] == expected[::-1]


def test_nothing_is_enlarged_and_no_side_vanishes() -> None:
    assert shrink(torch.zeros(3, 5, 9, dtype=torch.uint8), 100, 100).shape == (3, 5, 9)
    assert shrink(torch.zeros(3, 1, 1000, dtype=torch.uint8), None, 10).shape == (3, 1, 10)


def test_transparency_is_blended_with_the_background() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 255, 0))
    assert (raw(file_of(image, "PNG")) == (255, 0, 0)).all()


def test_gray_and_cmyk_become_rgb() -> None:
    gray = photo(16, 16).convert("L")
    assert np.array_equal(raw(file_of(gray, "PNG")), np.array(gray.convert("RGB")))
    cmyk = Image.open(io.BytesIO(file_of(photo(16, 16).convert("CMYK"), "JPEG")))
    assert np.abs(raw(file_of(cmyk, "JPEG")).astype(int) - np.array(cmyk.convert("RGB"))).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_pixels_and_size(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(photo(16, 32), "JPEG", exif=exif)
    expected = (32, 16) if orientation >= 5 else (16, 32)
    assert raw(data).shape[:2] == upright_size(data, "x") == expected


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\xff\xd8\xff"])
@pytest.mark.parametrize("options", [Format("files"), RAW])
def test_the_error_about_an_unreadable_image_contains_its_name(data: bytes, options: Format) -> None:
    with pytest.raises(UnreadableImage, match="some name"):
        encode_image(data, options, "some name")


def test_an_image_that_exceeds_pils_limit_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImage, match="x: .*exceeds limit"):
        encode_image(file_of(photo(40, 40), "PNG"), Format("files"), "x")
