"""Damaged, unusual and malicious image files, each with the expected result: a color, or an error with its name."""

import io
import os
import resource
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fovea.data.index import Index
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels import decode
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop
from fovea.data.pixels.decode import UnreadableImage, read_file, read_image
from fovea.data.pixels.header import read_header
from fovea.data.sources.folder import read_folder
from fovea.data.sources.image_files import read_files

RED = (200, 40, 20)
GRAY = (128, 128, 128)
BACKGROUND = (10, 20, 30)
MEMORY = 2 << 30  # bytes that a test may allocate
Colour = tuple[int, int, int]
Outcome = Colour | str  # every pixel's color, or a part of the error message


@pytest.fixture(autouse=True)
def _limit_time_and_memory() -> Iterator[None]:
    """Let a test fail that would hang or use up the memory."""

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    before, (soft, hard) = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def plain(mode: str = "RGB", colour: object = RED, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(width: int, height: int, next_directory: int = 0) -> bytes:
    entries = [
        *((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8 + 2 + 9 * 12 + 4)),
        *((277, 3, 1), (278, 4, height), (279, 4, 64)),
    ]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, 9) + directory + struct.pack("<I", next_directory) + b"\x80" * 64


def webp(width: int, height: int) -> bytes:
    """A small image whose header states a large canvas."""
    pixels = encoded(plain(), "WEBP", lossless=True)[12:]
    canvas = (
        b"VP8X" + struct.pack("<IB3x", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(canvas) + len(pixels)) + b"WEBP" + canvas + pixels


def jpeg_of_size(data: bytes, height: int, width: int) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


JPEG, PNG = encoded(plain(), "JPEG", quality=95), encoded(plain(), "PNG")
NOISY_JPEG, NOISY_PNG = encoded(noise(), "JPEG", quality=95), encoded(noise(), "PNG")
HUGE = jpeg_of_size(JPEG, 65500, 65500)[2:]
BOMB = "decompression bomb"
EXIF = b"Exif\0\0" + b"MM\0*\0\0\0\x08\xff\xff" + b"\xee" * 50

FILES: dict[str, tuple[bytes, Outcome]] = {
    "whole.jpg": (JPEG, RED),
    "whole.png": (PNG, RED),
    # damaged
    "empty.jpg": (b"", "empty"),
    "one byte.jpg": (b"\xff", "not an image"),
    **{f"cut at {part}.jpg": (NOISY_JPEG[: int(part * len(NOISY_JPEG))], "") for part in (0.01, 0.1, 0.5, 0.9)},
    "without its last byte.jpg": (NOISY_JPEG[:-3], ""),
    **{f"cut at {part}.png": (NOISY_PNG[: int(part * len(NOISY_PNG))], "") for part in (0.005, 0.1, 0.5, 0.9)},
    "broken checksum.png": (NOISY_PNG[:60] + bytes([NOISY_PNG[60] ^ 255]) + NOISY_PNG[61:], ""),
    "broken header checksum.png": (NOISY_PNG[:29] + bytes([NOISY_PNG[29] ^ 255]) + NOISY_PNG[30:], ""),
    "without pixels.png": (png(8, 8, 8, 2, b""), ""),
    "no width.png": (png(0, 8, 8, 2, b""), ""),
    "no height.jpg": (jpeg_of_size(JPEG, 0, 40), ""),
    "without a frame.gif": (b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b";", ""),
    "garbage behind the header.jpg": (JPEG[:3] + b"\xaa" * 5000, ""),
    # not images
    "text.jpg": (b"hello, this is a letter", "not an image"),
    "drawing.svg.png": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', "not an image"),
    "error page.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not an image"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) deletefile\n", "not an image"),
    "pickle.jpg": (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94.", "not an image"),
    "pdf.jpg": (b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj", "not an image"),
    "zip.png": (b"PK\x03\x04" + b"\0" * 60, "not an image"),
    # decompression bombs: small files with a large size in the header, or with as many pixels
    "bomb.png": (png(60000, 60000, 8, 2, b"\0" * 100), BOMB),
    "a real bomb.png": (png(30000, 30000, 1, 0, bytes(3751 * 30000)), BOMB),
    "bomb.jpg": (jpeg_of_size(JPEG, 65500, 65500), BOMB),
    "bomb.gif": (encoded(plain(), "GIF")[:6] + b"\xff\xff\xff\xff" + encoded(plain(), "GIF")[10:], BOMB),
    "bomb.bmp": (encoded(plain(), "BMP")[:18] + struct.pack("<ii", 50000, 50000) + encoded(plain(), "BMP")[26:], BOMB),
    "bomb.tiff": (tiff(60000, 60000), BOMB),
    "bomb.webp": (webp(16384, 16384), BOMB),
    "bomb.ppm": (b"P6 99999 99999 255\n" + b"\0" * 50, BOMB),
    # a large image where some decoders expect the body of a marker that has none
    "hidden bomb.jpg": (JPEG[:2] + b"\xff\x01" + struct.pack(">H", 2 + len(HUGE)) + HUGE + JPEG[2:], ""),
    # rare but readable
    "cmyk.jpg": (encoded(plain("CMYK", (0, 0, 0, 127)), "JPEG", quality=95), GRAY),
    "16 bits.png": (encoded(Image.fromarray(np.full((30, 40), 128 * 257, np.uint16)), "PNG"), GRAY),
    "16 bits and alpha.png": (png(8, 8, 16, 6, bytes(8 * (1 + 64))), BACKGROUND),
    "palette and alpha.png": (encoded(plain("P", 0), "PNG", transparency=0), BACKGROUND),
    "transparent.webp": (encoded(plain("RGBA", (9, 9, 9, 0)), "WEBP", lossless=True), BACKGROUND),
    "gray and alpha.png": (encoded(plain("LA", (128, 255)), "PNG"), GRAY),
    "one bit.png": (encoded(plain("1", 1), "PNG"), (255, 255, 255)),
    "one pixel.png": (encoded(plain(size=(1, 1)), "PNG"), RED),
    "one pixel.jpg": (encoded(plain(size=(1, 1)), "JPEG", quality=95), RED),
    "thin.png": (encoded(plain(size=(1, 5000)), "PNG"), RED),
    "flat.jpg": (encoded(plain(size=(5000, 1)), "JPEG", quality=95), RED),
    "a png called.jpg": (PNG, RED),
    "exif of garbage.jpg": (encoded(plain(), "JPEG", quality=95, exif=EXIF), RED),
    "garbage at its end.png": (PNG + b"\0garbage" * 50, RED),
    "its directory is its next.tiff": (tiff(8, 8, next_directory=8), GRAY),
    # rare and unreadable
    "float.tiff": (encoded(plain("F", 0.5), "TIFF"), "no known range"),
    "32 bits.tiff": (encoded(plain("I", 5), "TIFF"), "no known range"),
    "too thin.png": (png(600000, 1, 1, 0, bytes(1 + 75000)), "too thin"),
}


def dataset(paths: list[str], on_error: str) -> ImageDataset:
    augment = Augment(CenterCrop(16, 18))
    return ImageDataset(Index(paths, torch.zeros(len(paths))), augment, 0, on_error, BACKGROUND)


def check_outcome(tmp_path: Path, bad: Path, expected: Outcome) -> None:
    """Check a file in a batch of good images: it has the expected color, or is named in the error or skipped."""
    for name in ("a.png", "z.jpg"):
        (tmp_path / name).write_bytes(PNG if name == "a.png" else JPEG)
    paths = [str(tmp_path / "a.png"), str(bad), str(tmp_path / "z.jpg")]
    if isinstance(expected, str):
        with pytest.raises(UnreadableImage) as error:
            dataset(paths, "raise").__getitems__([0, 1, 2])
        assert str(error.value).startswith(f"{bad}: ")
        assert expected in str(error.value)
    batch = dataset(paths, "skip").__getitems__([0, 1, 2])
    whole = not isinstance(expected, str)
    assert batch.unreadable.tolist() == ([] if whole else [1])
    assert batch.indices.tolist() == ([0, 1, 2] if whole else [0, 2])
    colours = [RED, *([expected] if whole else []), RED]
    for image, colour in zip(batch.images, colours, strict=True):
        assert is_all(image, colour)


def is_all(image: Tensor, colour: Outcome) -> bool:
    return bool(((image.int() - torch.tensor(colour).view(3, 1, 1)).abs() <= 3).all())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_each_file_is_read_or_reported_as_expected(tmp_path: Path, name: str) -> None:
    data, expected = FILES[name]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / name).write_bytes(data)
    check_outcome(tmp_path, tmp_path / "bad" / name, expected)


NOT_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda path: path.mkdir(), "directory"),
    "a pipe": (os.mkfifo, "not a regular file"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "a device without end": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "an empty device": (lambda path: path.symlink_to("/dev/null"), "not a regular file"),
    "a file of the kernel's": (lambda path: path.symlink_to("/proc/self/status"), "empty"),
    "nothing": (lambda path: None, "No such file"),
    "a huge file of zeros": (lambda path: path.touch() or os.truncate(path, 1 << 40), "more than the limit"),
}


@pytest.mark.parametrize("kind", NOT_FILES)
def test_a_path_that_is_not_a_regular_file_is_named_and_does_not_block(tmp_path: Path, kind: str) -> None:
    make, message = NOT_FILES[kind]
    make(tmp_path / "x.jpg")
    check_outcome(tmp_path, tmp_path / "x.jpg", message)


NAMES = [
    b"new\nline.png",
    b"'quotes' \"and\" `ticks`.png",
    b"$(touch x); rm -rf *.png",
    b" spaces at both ends .png",
    b"--option.png",
    b"back\\slash.png",
    "😀 日本語 é.png".encode(),
    b"no utf-8 \xff\xfe.png",
    b"\x1b[31mred\x07.png",
    b"{braces} %s %d ${HOME}.png",
    b"a" * 251 + b".png",
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
@pytest.mark.parametrize("good", [True, False])
def test_any_file_name_is_read(tmp_path: Path, name: bytes, good: bool) -> None:
    path = tmp_path / "images" / os.fsdecode(name)
    path.parent.mkdir()
    path.write_bytes(PNG if good else b"no image")
    check_outcome(tmp_path, path, RED if good else "not an image")
    assert list(read_files(path.parent).paths) == [str(path)]


def test_a_name_with_a_null_character_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="null"):
        read_file(f"{tmp_path}/a\0b.png")


def test_a_list_keeps_names_that_are_not_utf_8_and_names_of_missing_files(tmp_path: Path) -> None:
    names = [b"no utf-8 \xff\xfe.png", "line\u2028separator.png".encode(), b"/dev/zero", b"null \0.png"]
    (tmp_path / "list.txt").write_bytes(b"\n".join(names))
    listed = read_files(tmp_path / "list.txt").paths
    assert [os.fsencode(os.path.basename(path)) for path in listed] == [*names[:2], b"zero", names[3]]
    for path in listed:
        with pytest.raises(UnreadableImage):
            read_image(path)


def test_a_folder_of_bad_files_is_listed_and_a_circular_link_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(PNG)
        os.mkfifo(tmp_path / name / "pipe.jpg")
    assert len(read_folder(tmp_path).train) == 4
    (tmp_path / "b" / "round").symlink_to(tmp_path / "b")
    with pytest.raises(ValueError, match="round are the same folder, through a link"):
        read_folder(tmp_path)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_converting_a_large_image_in_chunks_changes_no_pixel(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, channels: int
) -> None:
    top = torch.iinfo(dtype).max
    pixels = torch.randint(0, top + 1, (channels, 37, 11), generator=torch.Generator().manual_seed(0)).to(dtype)
    whole = decode._to_rgb(pixels, BACKGROUND)
    monkeypatch.setattr(decode, "CHUNK_PIXELS", 50)
    assert torch.equal(decode._to_rgb(pixels, BACKGROUND), whole)


def test_a_size_that_decoders_would_not_use_is_not_trusted() -> None:
    data, _ = FILES["hidden bomb.jpg"]
    assert read_header(JPEG) is not None
    assert read_header(data) is None  # decoders find 65500 x 65500 pixels, and not the small image behind them
