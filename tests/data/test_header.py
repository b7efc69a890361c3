"""The header that is read before decoding, against what PIL says of the same file."""

import io

import pytest
from PIL import Image

from fovea.data.header import Header, read_header

FILES = [
    ("JPEG", "L", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "CMYK", {"icc_profile": b"\xff\xc0" * 40000, "comment": "over two segments"}),
    ("PNG", "1", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "P", {}),
    ("PNG", "LA", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "I;16", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("WEBP", "RGBA", {"icc_profile": b"profile"}),
]


def encode(mode: str, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (301, 7)).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize(("format", "mode", "options"), FILES)
def test_size_and_transparency_are_what_pil_says(format: str, mode: str, options: dict[str, object]) -> None:
    data = encode(mode, format, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert read_header(data) == Header(image.width * image.height, image.has_transparency_data)


@pytest.mark.parametrize(("format", "mode", "options"), FILES)
def test_a_file_cut_anywhere_gives_its_header_or_none(format: str, mode: str, options: dict[str, object]) -> None:
    data = encode(mode, format, **options)
    whole = read_header(data)
    assert {read_header(data[:length]) for length in range(min(len(data), 300))} <= {None, whole}


def test_what_the_fast_decoders_cannot_read_has_no_header() -> None:
    moving, exif = {"save_all": True, "append_images": [Image.new("RGB", (301, 7), "red")]}, Image.Exif()
    exif[0x0112] = 6
    for data in (
        encode("RGB", "WEBP", **moving),
        encode("RGB", "WEBP", exif=exif),
        encode("RGB", "BMP"),
        b"",
    ):
        assert read_header(data) is None


def test_a_jpegs_size_is_found_behind_huffman_tables_and_fill_bytes() -> None:
    data = encode("RGB", "JPEG")
    table = b"\xff\xff\xff\xc4" + (2 + 12).to_bytes(2, "big") + b"\x01" * 12  # would be a frame of 257 x 257
    assert read_header(data[:2] + table + data[2:]) == Header(301 * 7, alpha=False)
