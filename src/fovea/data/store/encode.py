"""Encodes images for a store: the file's own bytes, a new JPEG, or raw pixels."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import simplejpeg
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fovea.data.pixels.decode import PIL_FORMATS, UnreadableImage, decode_image_bytes
from fovea.data.pixels.render import resize


@dataclass(frozen=True)
class Format:
    """How images are encoded in a store.

    Attributes:
        format: "files": the unchanged bytes of each file; "jpeg"; or "raw": pixels (H, W, 3) uint8.
        short_side, long_side: images are shrunk, never enlarged, until no side exceeds its limit.
        quality: of a JPEG, 1 to 100. Chroma has half the resolution (4:2:0), as in cameras: a fifth smaller than
            4:4:4, and no slower to decode.
        background: the color (R, G, B) that is blended with transparent pixels; not used for files.
    """

    format: str
    short_side: int | None = None
    long_side: int | None = None
    quality: int | None = None
    background: Sequence[int] | None = None


def encode_image(data: bytes, options: Format, name: str) -> tuple[bytes, tuple[int, int]]:
    """Return the bytes to store for an image file's `data`, and the image's upright height and width.

    With format "files", only the header is read; other damage is found when the image is decoded later.

    Raises:
        UnreadableImage: the file, called `name`, cannot be read.
    """
    if options.format == "files":
        return data, upright_size(data, name)
    pixels = shrink(decode_image_bytes(data, options.background or (), name), options.short_side, options.long_side)
    height, width = pixels.shape[1:]
    array = pixels.permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
    if options.format == "raw":
        return array.tobytes(), (height, width)
    assert options.quality is not None
    return simplejpeg.encode_jpeg(array, options.quality, "RGB", "420"), (height, width)


def shrink(pixels: Tensor, short_side: int | None, long_side: int | None) -> Tensor:
    """Shrink (3, H, W) uint8 to the limits, antialiased bilinear, sides rounded down; small images are unchanged."""
    height, width = pixels.shape[1:]
    limits = [(short_side, min(height, width)), (long_side, max(height, width))]
    ratios = [(limit, side) for limit, side in limits if limit]
    limit, side = min(ratios, key=lambda ratio: ratio[0] / ratio[1], default=(1, 1))
    if limit >= side:
        return pixels
    size = max(1, height * limit // side), max(1, width * limit // side)
    return resize(pixels[None], size, "bilinear")[0]


def upright_size(data: bytes | memoryview, name: str) -> tuple[int, int]:
    """Return height and width after applying the EXIF orientation."""
    if not data:
        raise UnreadableImage(f"{name}: the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=PIL_FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # orientations that rotate by 90 degrees
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{name}: not an image that can be read (starts with {bytes(data[:12])!r})") from error
    except Exception as error:  # on damaged files PIL raises OSError, SyntaxError, ValueError, struct.error, ...
        raise UnreadableImage(f"{name}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return (width, height) if turned else (height, width)
