"""Any image file people have, as upright 8-bit RGB.

TorchCodec decodes JPEG, PNG and still WebP, or torchvision.io where TorchCodec doesn't go with torch.
PIL reads everything else, and what those refuse; HEIC and HEIF with pillow-heif, where that is installed. Colour
profiles (ICC, gamma) are not applied.
"""

import io
import logging
import os
import stat
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile
from torch import Tensor

from fovea.data.pixels.header import read_header

log = logging.getLogger(__name__)

# Named, as PIL would otherwise try every format it knows and run Ghostscript on what looks like PostScript.
PIL_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
HEIF_EXTENSIONS = (".heic", ".heif", ".hif")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
GET_HEIF = "python -m pip install pillow-heif"
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".avif", *(HEIF_EXTENSIONS if find_spec("pillow_heif") else ())),
)
WHITE = (255, 255, 255)
MOST_BYTES = 1 << 30  # of an encoded file; an image of as many pixels as PIL decodes takes half of it uncompressed
AT_ONCE = 1 << 24  # pixels that are scaled or laid on the background at a time, for that takes 50 bytes a pixel


class UnreadableImage(ValueError):  # noqa: N818
    """A file that cannot be decoded; one line with its name and the reason."""


def torchcodec_decoder() -> Callable[..., Tensor]:
    """(encoded bytes, mode="RGB" or "RGB_ALPHA") -> (3 or 4, H, W) uint8 or uint16, turned as EXIF says."""
    from torchcodec.decoders import decode_image

    return partial(decode_image, output_dtype="auto")  # auto: 16 bits stay 16


def torchvision_decoder() -> Callable[..., Tensor]:
    """The same from torchvision.io, which shows what a PNG of gray or RGB declares a transparent colour.

    Such a PNG is left to PIL, which is right about 8 bits and shows the colour in 16.
    """
    from torchvision.io import decode_image

    def decode(data: Tensor, mode: str) -> Tensor:
        if mode == "RGB_ALPHA" and bytes(data[1:4].tolist()) == b"PNG" and int(data[25]) in (0, 2):
            raise RuntimeError("a PNG with a transparent colour")
        return decode_image(data, mode, apply_exif_orientation=True)

    return decode


def best_decoder() -> Callable[..., Tensor]:
    """TorchCodec's where it can be had."""
    try:
        return torchcodec_decoder()
    except (ImportError, OSError, RuntimeError):  # absent, older than 0.16, or built for another torch
        log.info("TorchCodec doesn't go with this torch: torchvision.io decodes instead")
        return torchvision_decoder()


_decode = best_decoder()


def read_file(path: str | Path) -> bytes:
    """The bytes of a regular file: a pipe would be waited for, and a device may have no end.

    Raises:
        UnreadableImage: there is no such file, it can't be read, or it is of another kind or larger than MOST_BYTES.
    """
    try:
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImage(f"{path}: no regular file, but a folder, pipe or device")
            if status.st_size > MOST_BYTES:
                raise UnreadableImage(f"{path}: {status.st_size:,} bytes are more than any image that is read has")
            data: bytes = file.read(status.st_size)
            return data if len(data) == status.st_size else data + file.readall()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        if isinstance(error, UnreadableImage):
            raise
        raise UnreadableImage(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe waits for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_image(path: str | Path, background: Sequence[int] = WHITE) -> Tensor:
    """(3, H, W) uint8 of an image file; see `decode_image_bytes`."""
    return decode_image_bytes(read_file(path), background, str(path))


def decode_image_bytes(data: bytes | memoryview, background: Sequence[int] = WHITE, name: str = "image") -> Tensor:
    """(3, H, W) uint8 of an encoded image: EXIF orientation applied, first frame of an animation.

    Alpha gives round(alpha * colour + (1 - alpha) * background), `background` being R, G, B in 0..255.
    16-bit values become round(x / 257); PIL cuts those of a colour TIFF, so they may be lower by 1.

    Raises:
        UnreadableImage: damaged, of no known format, larger than PIL's limit against decompression bombs
            (2 * PIL.Image.MAX_IMAGE_PIXELS), or values without a known range (float, 32-bit). Names `name`.
    """
    header = read_header(data)
    if header and not too_large(header.pixels):
        # bytearray: torch warns of memory it may not write to, and this copy is cheaper than silencing that.
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            return _to_rgb(_decode(encoded, mode="RGB_ALPHA" if header.alpha else "RGB"), background)
        except RuntimeError:
            pass  # PIL has the last word: it reads some rarer files, and names the fault of the rest
    return _to_rgb(_decode_with_pil(data, name), background)


def from_pil(image: Image.Image, background: Sequence[int] = WHITE, name: str = "image") -> Tensor:
    """(3, H, W) uint8 of a PIL image, as `decode_image_bytes` gives those of a file; raises as it does."""
    try:
        return _to_rgb(_from_pil(image), background)
    except Exception as error:  # the file behind it is read only now
        raise _unreadable(name, error) from error


def too_large(pixels: int) -> bool:
    """Whether these are more pixels than PIL would decode."""
    return pixels > 2 * (Image.MAX_IMAGE_PIXELS or float("inf"))


def _to_rgb(pixels: Tensor, background: Sequence[int]) -> Tensor:
    """(3, H, W) uint8 of (3 or 4, H, W) uint8 or uint16. The divisors are odd, so no value is halfway."""
    if pixels[0].numel() > AT_ONCE and (len(pixels) == 4 or pixels.dtype != torch.uint8):
        rows = max(1, AT_ONCE // pixels.shape[2])
        return torch.cat([_to_rgb(part, background) for part in pixels.split(rows, dim=1)], dim=1)
    wide = pixels.dtype == torch.uint16
    scale, top = (257, 65535) if wide else (1, 255)
    if pixels.shape[0] == 4:
        pixels = pixels.to(torch.int64 if wide else torch.int32)
        colour, alpha = pixels[:3], pixels[3:]
        behind = torch.tensor(background).view(3, 1, 1) * scale
        pixels = (colour * alpha + behind * (top - alpha) + top * scale // 2) // (top * scale)  # (3, H, W)
    elif wide:
        pixels = (pixels.to(torch.int32) + scale // 2) // scale
    return pixels.to(torch.uint8)


def _decode_with_pil(data: bytes | memoryview, name: str) -> Tensor:
    """(3 or 4, H, W) uint8 or (3, H, W) uint16, upright."""
    try:
        formats = _heif_format() if _is_heif(data) else PIL_FORMATS
        with Image.open(io.BytesIO(data), formats=formats) as image:
            return _from_pil(image)
    except UnidentifiedImageError as error:
        reason = f"not an image that can be read (starts with {bytes(data[:12])!r})" if data else "the file is empty"
        raise UnreadableImage(f"{name}: {reason}") from error
    except Exception as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> UnreadableImage:
    """For what PIL raises on damaged files: OSError, SyntaxError, ValueError, struct.error, ..."""
    return UnreadableImage(f"{name}: {' '.join(str(error).split()) or type(error).__name__}")


def _is_heif(data: bytes | memoryview) -> bool:
    """By the file's first brand; those that only name the container may hold AVIF too, which PIL reads itself."""
    brands = bytes(data[8:64])
    return data[4:8] == b"ftyp" and brands[:4] in HEIF_BRANDS and not (brands[1:2] != b"e" and b"avif" in brands)


@cache
def _heif_format() -> tuple[str]:
    """PIL's name of what pillow-heif adds to it."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ValueError(f"HEIC and HEIF are read with pillow-heif: {GET_HEIF}") from error
    register_heif_opener()
    return ("HEIF",)


def _from_pil(image: Image.Image) -> Tensor:
    upright = ImageOps.exif_transpose(image)
    mode = upright.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):  # PIL scales a PPM to 16 bits
        return torch.from_numpy(_full_range(np.asarray(upright), image)).expand(3, -1, -1)  # (3, H, W)
    if mode in ("I", "F"):
        raise ValueError(f"values of PIL mode {mode!r} have no known range; save it with 8 or 16 bits")
    if mode == "La":  # PIL has no direct way from premultiplied gray to RGBA
        upright = upright.convert("LA")
    array = np.array(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
    return torch.from_numpy(array).permute(2, 0, 1)  # (3 or 4, H, W)


def _full_range(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """(H, W) uint16, black 0, white 65535: PIL leaves 12 bits and white-is-zero as they are in a TIFF."""
    values = values.astype(np.int64)
    if isinstance(image, TiffImageFile):
        top = 2 ** image.tag_v2[BITSPERSAMPLE][0] - 1
        values = (values * 65535 + top // 2) // top
        if image.tag_v2[PHOTOMETRIC_INTERPRETATION] == 0:
            values = 65535 - values
    return values.astype(np.uint16)
