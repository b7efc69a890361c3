"""Image files of every kind compared with PIL's own conversion or plain numpy."""

import io
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features
from torch import Tensor

from fovea.data.pixels import decode
from fovea.data.pixels.decode import UnreadableImage, decode_image_bytes, read_image

pytestmark = pytest.mark.filterwarnings(
    "ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning"
)

HEIGHT, WIDTH = 11, 14
NOISE = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 4)).astype(np.uint16)  # every kind of alpha
BYTES = (NOISE >> 8).astype(np.uint8)
SMOOTH = np.add.outer(np.arange(48), 3 * np.arange(64)).astype(np.uint8)
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation: from stored to upright
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.fixture(params=["torchcodec", "torchvision"], autouse=True)
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setattr(decode, "_decode", getattr(decode, f"{request.param}_decoder")())
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"{request.param} does not work with this torch: {error}")


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png(values: np.ndarray, depth: int, colour: int, **chunks: bytes) -> bytes:
    """Write (H, W, C) `values` as a PNG; `chunks` come before the pixels. https://www.w3.org/TR/png-3/"""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    if depth < 8:
        bits = (values.reshape(HEIGHT, -1, 1) >> np.arange(depth)[::-1]) & 1  # (H, W, depth)
        lines = np.packbits(bits.reshape(HEIGHT, -1).astype(np.uint8), axis=1)
    else:
        lines = values.reshape(HEIGHT, -1).astype(">u2" if depth == 16 else np.uint8)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    extra = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    pixels = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, photometric: int, alpha: bool = False) -> bytes:
    """Write (H, W, C) 8- or 16-bit `values` as an uncompressed little-endian TIFF. TIFF 6.0, section 2."""
    height, width, channels = values.shape
    pixels = values.astype(values.dtype.newbyteorder("<")).tobytes()
    depths = struct.pack(f"<{channels}H", *[8 * values.dtype.itemsize] * channels)
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, 8 + len(pixels)), (259, 3, 1, 1)]
    tags += [(262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, height)]
    tags += [(279, 4, 1, len(pixels))] + [(338, 3, 1, 2)] * alpha
    if channels <= 2:  # values of up to four bytes are in the tag itself
        tags[2] = (258, 3, channels, int.from_bytes(depths, "little"))
    start = 8 + len(pixels) + len(depths)
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    return b"II*\0" + struct.pack("<I", start) + pixels + depths + directory


def composited(values: np.ndarray, top: int, background: Sequence[int] = (255, 255, 255)) -> np.ndarray:
    """Blend (H, W, 4) with the background in float64, giving (H, W, 3) uint8."""
    colour, alpha = values[..., :3] / top, values[..., 3:] / top
    return np.round(255 * (colour * alpha + np.array(background) / 255 * (1 - alpha))).astype(np.uint8)


def gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.reshape(HEIGHT, WIDTH, 1), 3, axis=2)


def assert_pixels(image: Tensor, expected: np.ndarray, tolerance: int = 0) -> None:
    assert image.dtype == torch.uint8
    assert tuple(image.shape) == (3, *expected.shape[:2])
    difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected)
    assert difference.max() <= tolerance


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_a_jpeg_has_the_pixels_that_pil_decodes(mode: str, options: dict[str, object]) -> None:
    data = encode(Image.fromarray(SMOOTH).convert("RGB").convert(mode), "JPEG", **options)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    assert_pixels(decode_image_bytes(data), expected, tolerance=2)  # two builds of libjpeg may round differently


def scaled(values: np.ndarray) -> np.ndarray:
    return np.round(values / 257).astype(np.uint8)


PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)
KEY = BYTES[3, 5, :3]  # the colour that tRNS makes transparent
KEY_ALPHA = np.where((BYTES[..., :3] == KEY).all(-1, keepdims=True), 0, 255)
PNGS = {
    "1-bit": (png(NOISE[..., :1] & 1, 1, 0), gray((NOISE[..., 0] & 1) * 255)),
    "4-bit gray": (png(NOISE[..., :1] & 15, 4, 0), gray((NOISE[..., 0] & 15) * 17)),
    "1-bit with a transparent colour": (
        png(NOISE[..., :1] & 1, 1, 0, tRNS=b"\0\0"),
        np.full((HEIGHT, WIDTH, 3), 255),
    ),
    "gray": (png(BYTES[..., :1], 8, 0), gray(BYTES[..., 0])),
    "gray and alpha": (png(BYTES[..., 2:], 8, 4), composited(BYTES[..., [2, 2, 2, 3]], 255)),
    "palette": (png(BYTES[..., :1], 8, 3, PLTE=PALETTE.tobytes()), PALETTE[BYTES[..., 0]]),
    "palette with transparency": (
        png(BYTES[..., :1], 8, 3, PLTE=PALETTE.tobytes(), tRNS=bytes(range(256))),
        composited(np.dstack([PALETTE[BYTES[..., 0]], BYTES[..., 0]]), 255),
    ),
    "RGB": (png(BYTES[..., :3], 8, 2), BYTES[..., :3]),
    "RGB with a transparent colour": (
        png(BYTES[..., :3], 8, 2, tRNS=KEY.astype(">u2").tobytes()),
        composited(np.dstack([BYTES[..., :3], KEY_ALPHA]), 255),
    ),
    "RGBA": (png(BYTES, 8, 6), composited(BYTES, 255)),
    "16-bit gray": (png(NOISE[..., :1], 16, 0), gray(scaled(NOISE[..., 0]))),
    "16-bit gray and alpha": (png(NOISE[..., 2:], 16, 4), composited(NOISE[..., [2, 2, 2, 3]], 65535)),
    "16-bit RGB": (png(NOISE[..., :3], 16, 2), scaled(NOISE[..., :3])),
    "16-bit RGBA": (png(NOISE, 16, 6), composited(NOISE, 65535)),
}


@pytest.mark.parametrize(("data", "expected"), PNGS.values(), ids=PNGS.keys())
def test_every_kind_of_png_is_scaled_and_blended_with_white(data: bytes, expected: np.ndarray) -> None:
    assert_pixels(decode_image_bytes(data), expected)


def test_transparency_is_blended_with_the_given_background() -> None:
    data = encode(Image.new("RGBA", (1, 1), (100, 100, 0, 128)), "PNG")
    assert decode_image_bytes(data, (0, 255, 7)).flatten().tolist() == [50, 177, 3]  # 50.2, 177.2, 3.49
    assert_pixels(decode_image_bytes(png(NOISE, 16, 6), (9, 8, 200)), composited(NOISE, 65535, (9, 8, 200)))


def test_lossy_lossless_transparent_and_animated_webp_is_read() -> None:
    lossy = encode(Image.fromarray(BYTES[..., :3]), "WEBP", quality=80)
    assert_pixels(decode_image_bytes(lossy), np.array(Image.open(io.BytesIO(lossy)).convert("RGB")), tolerance=1)
    lossy = encode(Image.fromarray(BYTES), "WEBP", quality=80)
    rgba = np.array(Image.open(io.BytesIO(lossy)).convert("RGBA"))
    assert_pixels(decode_image_bytes(lossy), composited(rgba, 255), tolerance=1)
    exact = {"lossless": True, "exact": True}  # exact: keeps the colours under alpha 0
    assert_pixels(decode_image_bytes(encode(Image.fromarray(BYTES), "WEBP", **exact)), composited(BYTES, 255))
    frames = [Image.fromarray(BYTES[..., :3]), Image.fromarray(255 - BYTES[..., :3])]
    moving = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert_pixels(decode_image_bytes(moving), BYTES[..., :3])


def test_a_gif_is_read_as_its_first_frame_blended_with_the_background() -> None:
    frames = [Image.fromarray(values, "P") for values in (BYTES[..., 0] % 4, BYTES[..., 1] % 4)]
    palette = [10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200]
    for frame in frames:
        frame.putpalette(palette)
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=2)
    colours = np.array(palette, np.uint8).reshape(4, 3)
    colours[2] = (1, 2, 3)
    assert_pixels(decode_image_bytes(data, (1, 2, 3)), colours[BYTES[..., 0] % 4])


TIFFS = {
    "gray": (tiff(BYTES[..., :1], 1), gray(BYTES[..., 0]), 0),
    "gray and alpha": (tiff(BYTES[..., 2:], 1, alpha=True), composited(BYTES[..., [2, 2, 2, 3]], 255), 0),
    "RGB": (tiff(BYTES[..., :3], 2), BYTES[..., :3], 0),
    "RGBA": (tiff(BYTES, 2, alpha=True), composited(BYTES, 255), 0),
    "16-bit gray": (tiff(NOISE[..., :1], 1), gray(scaled(NOISE[..., 0])), 0),
    "16-bit gray, white is zero": (tiff(NOISE[..., :1], 0), gray(scaled(65535 - NOISE[..., 0])), 0),
    "16-bit RGB": (tiff(NOISE[..., :3], 2), scaled(NOISE[..., :3]), 1),  # PIL keeps the high byte
    "16-bit RGBA": (tiff(NOISE, 2, alpha=True), composited(NOISE, 65535), 1),
}


@pytest.mark.parametrize(("data", "expected", "tolerance"), TIFFS.values(), ids=TIFFS.keys())
def test_a_tiff_of_8_or_16_bits_is_scaled_and_blended(data: bytes, expected: np.ndarray, tolerance: int) -> None:
    assert_pixels(decode_image_bytes(data), expected, tolerance)


def test_bmp_and_16_bit_pgm_are_read() -> None:
    assert_pixels(decode_image_bytes(encode(Image.fromarray(BYTES[..., :3]), "BMP")), BYTES[..., :3])
    pgm = f"P5 {WIDTH} {HEIGHT} 65535\n".encode() + NOISE[..., 0].astype(">u2").tobytes()
    assert_pixels(decode_image_bytes(pgm), gray(scaled(NOISE[..., 0])))


def test_every_known_extension_can_be_read(tmp_path: Path) -> None:
    Image.init()
    formats = {".jif": "JPEG"} | dict.fromkeys(decode.HEIF_EXTENSIONS, "HEIF")
    for extension in decode.EXTENSIONS:
        if extension == ".avif" and not features.check("avif"):
            continue
        if extension in decode.HEIF_EXTENSIONS:
            pytest.importorskip("pillow_heif").register_heif_opener()
        path = tmp_path / f"image{extension}"
        Image.fromarray(SMOOTH).convert("RGB").save(path, formats.get(extension))
        assert_pixels(read_image(path), np.array(Image.open(path).convert("RGB")), tolerance=2)


def test_heic_is_read_or_the_error_says_how_to_install_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    data = encode(Image.fromarray(SMOOTH).convert("RGB"), "HEIF", quality=100)
    assert_pixels(decode_image_bytes(data), np.array(Image.fromarray(SMOOTH).convert("RGB")), tolerance=6)
    with pytest.raises(decode.UnreadableImage, match="x.heic: "):
        decode_image_bytes(data[:200], name="x.heic")
    decode._heif_format.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(decode.UnreadableImage, match="x.heic: reading HEIC .*python -m pip install pillow-heif"):
        decode_image_bytes(data, name="x.heic")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_exif_orientation_is_applied(format: str, options: dict[str, object], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for values in (BYTES[..., :3], BYTES[..., 0]):
        data = encode(Image.fromarray(values), format, exif=exif, **options)
        expected = TURNS[orientation](values if values.ndim == 3 else gray(values))
        assert_pixels(decode_image_bytes(data), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("endian", "<>")
def test_a_jpegs_exif_orientation_is_applied_in_both_byte_orders(orientation: int, endian: str) -> None:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F], exif[0x0112] = "a maker before it", orientation
    data = encode(Image.fromarray(SMOOTH), "JPEG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    stored = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (np.array(upright) == TURNS[orientation](stored)).all()
    assert_pixels(decode_image_bytes(data), np.array(upright), tolerance=2)


def test_exif_orientation_is_applied_to_16_bit_images() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for format in ("PNG", "TIFF"):
        data = encode(Image.fromarray(NOISE[..., 0]), format, exif=exif)
        assert_pixels(decode_image_bytes(data), TURNS[6](gray(scaled(NOISE[..., 0]))))


def test_an_image_with_a_damaged_exif_block_is_read() -> None:
    whole = Image.fromarray(SMOOTH)
    for exif in (
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0hello",
    ):
        plain = decode_image_bytes(encode(whole, "JPEG"))
        assert torch.equal(decode_image_bytes(encode(whole, "JPEG", exif=exif)), plain)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_image_is_unreadable_and_named_in_one_line(format: str, tmp_path: Path) -> None:
    data = encode(Image.fromarray(NOISE.view(np.uint8).reshape(HEIGHT, -1)), format)
    for length in (len(data) // 2, 20, 3):
        path = tmp_path / f"half an image.{format.lower()}"
        path.write_bytes(data[:length])
        with pytest.raises(UnreadableImage) as error:
            read_image(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
        assert error.value.__cause__ is not None


def test_the_error_about_an_unreadable_file_gives_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello, this is a letter")
    (tmp_path / "folder.jpg").mkdir()
    reasons = {
        "empty.jpg": "empty",
        "text.jpg": "hello, ",
        "folder.jpg": "directory",
        "missing.jpg": "No such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableImage, match=f"{name}: .*{reason}"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_without_a_known_range_are_an_error(mode: str) -> None:
    with pytest.raises(UnreadableImage, match=f"scan.tif.*'{mode}'.*8 or 16 bits"):
        decode_image_bytes(encode(Image.new(mode, (4, 4), 1), "TIFF"), name="scan.tif")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_image_over_pils_limit_is_an_error_before_decoding(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image.fromarray(SMOOTH), format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SMOOTH.size // 2)
    assert decode_image_bytes(data).shape == (3, *SMOOTH.shape)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SMOOTH.size // 2 - 1)
    with pytest.raises(UnreadableImage, match="bomb"):
        decode_image_bytes(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode_image_bytes(data).shape == (3, *SMOOTH.shape)


def test_pil_reads_what_the_fast_decoder_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: Tensor, mode: str) -> Tensor:
        raise RuntimeError("not today")

    monkeypatch.setattr(decode, "_decode", fail)
    assert_pixels(decode_image_bytes(png(BYTES, 8, 6)), composited(BYTES, 255))


def test_jpeg_png_and_still_webp_are_not_decoded_by_pil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_decode_with_pil", None)
    for format in ("JPEG", "PNG", "WEBP"):
        assert decode_image_bytes(encode(Image.fromarray(SMOOTH), format)).shape == (3, *SMOOTH.shape)


def test_torchvision_decodes_without_torchcodec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)  # makes the import fail
    monkeypatch.setattr(decode, "_decode", decode.best_decoder())
    assert "torchvision" in decode._decode.__qualname__
    assert_pixels(decode_image_bytes(png(NOISE, 16, 6)), composited(NOISE, 65535))
