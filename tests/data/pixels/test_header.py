"""Headers compared with PIL's size and mode of the same file."""

import io

import pytest
from PIL import Image

from fovea.data.pixels.header import read_header

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
def test_size_and_transparency_match_pil(format: str, mode: str, options: dict[str, object]) -> None:
    data = encode(mode, format, **options)
    with Image.open(io.BytesIO(data)) as image:
        header = read_header(data)
        assert header is not None
        assert header[:2] == (image.width * image.height, image.has_transparency_data)


@pytest.mark.parametrize(("format", "mode", "options"), FILES)
def test_a_file_truncated_anywhere_gives_its_header_or_none(format: str, mode: str, options: dict[str, object]) -> None:
    data = encode(mode, format, **options)
    whole = read_header(data)
    assert {read_header(data[:length]) for length in range(min(len(data), 300))} <= {None, whole}


def test_files_that_only_pil_reads_have_no_header() -> None:
    moving, exif = {"save_all": True, "append_images": [Image.new("RGB", (301, 7), "red")]}, Image.Exif()
    exif[0x0112] = 6
    for data in (
        encode("RGB", "WEBP", **moving),
        encode("RGB", "WEBP", exif=exif),
        encode("RGB", "BMP"),
        b"",
    ):
        assert read_header(data) is None


def test_a_jpegs_size_is_found_after_huffman_tables_and_fill_bytes() -> None:
    data = encode("RGB", "JPEG")
    table = b"\xff\xff\xff\xc4" + (2 + 12).to_bytes(2, "big") + b"\x01" * 12  # would be a frame of 257 x 257
    header = read_header(data[:2] + table + data[2:])
    assert header is not None
    assert header[:2] == (301 * 7, False)


def test_a_jpegs_frame_header_is_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    data = encode("RGB", "JPEG", exif=exif, subsampling=2)
    header = read_header(data)
    assert header is not None
    assert header.frame is not None
    assert header.frame[:5] == (7, 301, 3, True, 16)
    assert header.frame.orientation == 8
    assert data[header.frame.height_at : header.frame.height_at + 4] == (7).to_bytes(2, "big") + (301).to_bytes(
        2, "big"
    )
    progressive = read_header(encode("L", "JPEG", progressive=True))
    assert progressive is not None
    assert progressive.frame is not None
    assert progressive.frame[:5] == (7, 301, 1, False, 8)


def test_an_invalid_exif_orientation_is_ignored() -> None:
    for value in (0, 9, 77):
        exif = Image.Exif()
        exif[0x0112] = value
        header = read_header(encode("RGB", "JPEG", exif=exif))
        assert header is not None
        assert header.frame is not None
        assert header.frame.orientation == 1
