"""Decodes image files of all common formats to upright 8-bit RGB.

TorchCodec decodes JPEG, PNG and still WebP; torchvision.io does if TorchCodec does not work with the installed torch.
PIL reads everything else and files on which those fail, and HEIC and HEIF if pillow-heif is installed. Color profiles
(ICC, gamma) are not applied.
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

# A fixed list, because PIL would otherwise try all formats and run Ghostscript on files that look like PostScript.
PIL_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
HEIF_EXTENSIONS = (".heic", ".heif", ".hif")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
INSTALL_HEIF = "python -m pip install pillow-heif"
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".avif", *(HEIF_EXTENSIONS if find_spec("pillow_heif") else ())),
)
WHITE = (255, 255, 255)
MAX_BYTES = 1 << 30  # of an encoded file; twice the uncompressed size of the largest image that PIL decodes
CHUNK_PIXELS = 1 << 24  # pixels that are converted at a time, because conversion takes 50 bytes per pixel


class UnreadableImage(ValueError):  # noqa: N818
    """A file that cannot be decoded; the message is one line with its name and the reason."""


def torchcodec_decoder() -> Callable[..., Tensor]:
    """Return a decoder: (encoded bytes, mode="RGB" or "RGB_ALPHA") -> (3 or 4, H, W) uint8 or uint16.

    It applies the EXIF orientation.
    """
    from torchcodec.decoders import decode_image

    return partial(decode_image, output_dtype="auto")  # auto: 16-bit images stay uint16


def torchvision_decoder() -> Callable[..., Tensor]:
    """Return such a decoder from torchvision.io.

    torchvision.io ignores the transparent color of a gray or RGB PNG, so this decoder fails on such files and PIL reads
    them instead (with 16 bits, PIL ignores the color too).
    """
    from torchvision.io import decode_image

    def decode(data: Tensor, mode: str) -> Tensor:
        if mode == "RGB_ALPHA" and bytes(data[1:4].tolist()) == b"PNG" and int(data[25]) in (0, 2):
            raise RuntimeError("a PNG with a transparent color")
        return decode_image(data, mode, apply_exif_orientation=True)

    return decode


def best_decoder() -> Callable[..., Tensor]:
    """Return TorchCodec's decoder, or torchvision's if TorchCodec cannot be loaded."""
    try:
        return torchcodec_decoder()
    except (ImportError, OSError, RuntimeError):  # absent, older than 0.16, or built for another torch
        log.info("TorchCodec does not work with this torch: torchvision.io decodes instead")
        return torchvision_decoder()


_decode = best_decoder()


def read_file(path: str | Path) -> bytes:
    """Read a regular file; pipes and devices are an error, because reading them might never end.

    Raises:
        UnreadableImage: the file does not exist, cannot be read, is not regular, or is larger than MAX_BYTES.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_without_blocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImage(f"{path}: not a regular file but a folder, pipe or device")
            if status.st_size > MAX_BYTES:
                raise UnreadableImage(f"{path}: {status.st_size:,} bytes, more than the limit of {MAX_BYTES:,}")
            data: bytes = file.read(status.st_size)
            return data if len(data) == status.st_size else data + file.readall()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        if isinstance(error, UnreadableImage):
            raise
        raise UnreadableImage(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _open_without_blocking(path: str, flags: int) -> int:
    """Open a file; with O_NONBLOCK, opening a pipe does not wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_image(path: str | Path, background: Sequence[int] = WHITE) -> Tensor:
    """Read an image file as (3, H, W) uint8; see `decode_image_bytes`."""
    return decode_image_bytes(read_file(path), background, str(path))


def decode_image_bytes(data: bytes | memoryview, background: Sequence[int] = WHITE, name: str = "image") -> Tensor:
    """Decode an encoded image to (3, H, W) uint8, upright by its EXIF orientation; of an animation, the first frame.

    Transparent pixels become round(alpha * color + (1 - alpha) * background), with `background` R, G, B in 0..255.
    16-bit values become round(x / 257). For a color TIFF, PIL truncates them, so they may be lower by 1.

    Raises:
        UnreadableImage: the image, called `name`, is damaged, in an unknown format, larger than PIL's limit against
            decompression bombs (2 * PIL.Image.MAX_IMAGE_PIXELS), or has values without a known range (float, 32-bit).
    """
    header = read_header(data)
    if header and not too_large(header.pixels):
        # Copied to a bytearray, because torch warns about read-only memory.
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            return _to_rgb(_decode(encoded, mode="RGB_ALPHA" if header.alpha else "RGB"), background)
        except RuntimeError:
            pass  # PIL below reads some rarer files and gives better error messages
    return _to_rgb(_decode_with_pil(data, name), background)


def from_pil(image: Image.Image, background: Sequence[int] = WHITE, name: str = "image") -> Tensor:
    """Convert a PIL image to (3, H, W) uint8 like `decode_image_bytes`, with the same errors."""
    try:
        return _to_rgb(_from_pil(image), background)
    except Exception as error:  # PIL reads an image's file lazily, so any read error may appear here
        raise _unreadable(name, error) from error


def too_large(pixels: int) -> bool:
    """Return whether an image has more pixels than PIL decodes."""
    return pixels > 2 * (Image.MAX_IMAGE_PIXELS or float("inf"))


def _to_rgb(pixels: Tensor, background: Sequence[int]) -> Tensor:
    """Convert (3 or 4, H, W) uint8 or uint16 to (3, H, W) uint8, rounded; odd divisors rule out ties."""
    if pixels[0].numel() > CHUNK_PIXELS and (len(pixels) == 4 or pixels.dtype != torch.uint8):
        rows = max(1, CHUNK_PIXELS // pixels.shape[2])
        return torch.cat([_to_rgb(part, background) for part in pixels.split(rows, dim=1)], dim=1)
    wide = pixels.dtype == torch.uint16
    scale, top = (257, 65535) if wide else (1, 255)
    if pixels.shape[0] == 4:
        pixels = pixels.to(torch.int64 if wide else torch.int32)
        color, alpha = pixels[:3], pixels[3:]
        behind = torch.tensor(background).view(3, 1, 1) * scale
        pixels = (color * alpha + behind * (top - alpha) + top * scale // 2) // (top * scale)  # (3, H, W)
    elif wide:
        pixels = (pixels.to(torch.int32) + scale // 2) // scale
    return pixels.to(torch.uint8)


def _decode_with_pil(data: bytes | memoryview, name: str) -> Tensor:
    """Decode to (3 or 4, H, W) uint8 or (3, H, W) uint16, upright."""
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
    """Wrap an error that PIL raises on a damaged file: OSError, SyntaxError, ValueError, struct.error, ..."""
    return UnreadableImage(f"{name}: {' '.join(str(error).split()) or type(error).__name__}")


def _is_heif(data: bytes | memoryview) -> bool:
    """Return whether the file's first brand is HEIF's; a file with a generic brand may be AVIF, which PIL reads."""
    brands = bytes(data[8:64])
    return data[4:8] == b"ftyp" and brands[:4] in HEIF_BRANDS and not (brands[1:2] != b"e" and b"avif" in brands)


@cache
def _heif_format() -> tuple[str]:
    """Register pillow-heif with PIL and return PIL's name of the format."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ValueError(f"reading HEIC and HEIF needs pillow-heif: {INSTALL_HEIF}") from error
    register_heif_opener()
    return ("HEIF",)


def _from_pil(image: Image.Image) -> Tensor:
    upright = ImageOps.exif_transpose(image)
    mode = upright.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):  # PIL scales PPM values to 16 bits
        return torch.from_numpy(_full_range(np.asarray(upright), image)).expand(3, -1, -1)  # (3, H, W)
    if mode in ("I", "F"):
        raise ValueError(f"values of PIL mode {mode!r} have no known range: save the image with 8 or 16 bits")
    if mode == "La":  # PIL cannot convert premultiplied gray to RGBA directly
        upright = upright.convert("LA")
    array = np.array(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
    return torch.from_numpy(array).permute(2, 0, 1)  # (3 or 4, H, W)


def _full_range(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """Scale to (H, W) uint16, black 0 and white 65535; PIL does not convert a TIFF's 12 bits or white-is-zero."""
    values = values.astype(np.int64)
    if isinstance(image, TiffImageFile):
        top = 2 ** image.tag_v2[BITSPERSAMPLE][0] - 1
        values = (values * 65535 + top // 2) // top
        if image.tag_v2[PHOTOMETRIC_INTERPRETATION] == 0:
            values = 65535 - values
    return values.astype(np.uint16)
