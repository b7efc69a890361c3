"""Partial decoding of a JPEG compared with decoding all of it."""

import io
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from fovea.data.pixels.crop import View
from fovea.data.pixels.decode import decode_image_bytes
from fovea.data.pixels.header import read_header
from fovea.data.pixels.jpeg import Jpeg, as_jpeg, decode_view
from fovea.data.pixels.render import render


def photo(height: int, width: int, smooth: int = 1) -> Image.Image:
    """Return an image of color waves with a length of at least 60 pixels."""
    y, x = np.mgrid[:height, :width] / smooth
    waves = [128 + 100 * np.sin(x / (9 + k)) * np.cos(y / (13 - k)) for k in range(3)]
    pixels = np.stack(waves, axis=-1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def opened(data: bytes) -> Jpeg:
    jpeg = as_jpeg(data, read_header(data))
    assert jpeg is not None
    return jpeg


def box(top: int, left: int, height: int, width: int, size: int) -> View:
    return View(top, left, height, width, size, size, 0, 0, 0)


KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {"subsampling": 2},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
    "gray": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_out_rows_below_a_box_changes_no_pixel_of_it(kind: str) -> None:
    image = photo(301, 203)
    data = encode(image.convert("L") if kind == "gray" else image, quality=85, **KINDS[kind])
    whole = decode_image_bytes(data)
    for bottom in range(1, 302, 23):
        pixels, view = decode_view(opened(data), box(0, 5, bottom, 150, 64), draft=0)
        assert view == box(0, 5, bottom, 150, 64)
        assert torch.equal(pixels[:, :bottom], whole[:, :bottom])
        if kind != "progressive":
            assert pixels.shape[1] <= min(301, bottom + 31)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("factor", [1, 4])
def test_exif_orientation_is_applied(orientation: int, factor: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(320, 240), quality=90, exif=exif)
    expected = decode_image_bytes(data)
    jpeg = opened(data)
    assert (jpeg.height, jpeg.width) == expected.shape[1:]
    pixels, view = decode_view(jpeg, box(0, 0, jpeg.height, jpeg.width, 240 if factor == 1 else 28), draft=factor // 2)
    small = torch.nn.functional.interpolate(expected[None], pixels.shape[1:], mode="bilinear", antialias=True)[0]
    assert pixels.shape[1:] == (-(-jpeg.height // factor), -(-jpeg.width // factor))
    assert (pixels.int() - small.int()).abs().float().mean() < (0.01 if factor == 1 else 4)
    assert (view.height, view.width) == tuple(pixels.shape[1:])


def rendered(pixels: Tensor, view: View) -> Tensor:
    out = torch.empty(3, view.resized_height, view.resized_width, dtype=torch.uint8)
    render(pixels, view, "bilinear", out)
    return out


@pytest.mark.parametrize(("side", "factor"), [(127, 1), (128, 2), (255, 2), (256, 4), (512, 8), (900, 8)])
def test_a_large_box_is_decoded_smaller_but_never_below_twice_the_result(side: int, factor: int) -> None:
    data = encode(photo(960, 1000, smooth=4), quality=90)
    view = box(40, 30, side, side, 32)
    pixels, within = decode_view(opened(data), view, draft=2)
    assert pixels.shape[2] == -(-1000 // factor)
    assert min(within.height, within.width) >= 2 * 32
    difference = (rendered(pixels, within).int() - rendered(decode_image_bytes(data), view).int()).abs().float()
    assert difference.mean() < (0.01 if factor == 1 else 4)


def test_without_draft_the_full_resolution_is_decoded() -> None:
    pixels, _ = decode_view(opened(encode(photo(960, 1000))), box(0, 0, 960, 1000, 32), draft=0)
    assert pixels.shape == (3, 960, 1000)


def test_files_that_are_not_plain_jpegs_are_left_to_other_decoders() -> None:
    data = encode(photo(40, 50))
    assert as_jpeg(data, read_header(data)) is not None
    cmyk = encode(photo(40, 50).convert("CMYK"))
    png = io.BytesIO()
    photo(4, 5).save(png, "PNG")
    for other in (data[:-2], data[: len(data) // 2], data + b"\0", cmyk, png.getvalue(), b""):
        assert as_jpeg(other, read_header(other)) is None


def test_a_damaged_file_is_an_error() -> None:
    data = encode(photo(40, 50))
    tables = data.index(b"\xff\xc4")  # the Huffman tables
    broken = data[: tables + 4] + b"\xff" * 30 + data[tables + 34 :]
    with pytest.raises(ValueError, match="JPEG|Huffman|Bogus|DHT"):
        decode_view(opened(broken), box(0, 0, 40, 50, 20), draft=2)


def test_simplejpeg_and_the_other_decoders_give_the_same_pixels() -> None:
    for options in KINDS.values():
        data = encode(photo(123, 77), quality=70, **options)
        assert np.array_equal(simplejpeg.decode_jpeg(data), decode_image_bytes(data).permute(1, 2, 0).numpy())
