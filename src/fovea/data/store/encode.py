"""The bytes that stand for an image in a store."""

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
    """What images are packed as.

    Attributes:
        format: "files", the bytes of each file as they are; "jpeg", or "raw": (H, W, 3) uint8.
        short_side, long_side: images are shrunk, never enlarged, until neither side is longer than that.
        quality: of a JPEG, 1 to 100. Its chroma is halved both ways (4:2:0), as cameras do: a fifth smaller than
            4:4:4, and no slower to decode.
        background: what transparent pixels are laid on; not for files.
    """

    format: str
    short_side: int | None = None
    long_side: int | None = None
    quality: int | None = None
    background: Sequence[int] | None = None


def encoded(data: bytes, options: Format, name: str) -> tuple[bytes, tuple[int, int]]:
    """What is stored for an image file's `data`, and the image's upright height and width.

    A file that is kept as it is has its header read, not more: damage below it shows when the image is decoded.

    Raises:
        UnreadableImage: naming the file `name`.
    """
    if options.format == "files":
        return data, upright_size(data, name)
    pixels = shrunk(decode_image_bytes(data, options.background or (), name), options.short_side, options.long_side)
    height, width = pixels.shape[1:]
    array = pixels.permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
    if options.format == "raw":
        return array.tobytes(), (height, width)
    assert options.quality is not None
    return simplejpeg.encode_jpeg(array, options.quality, "RGB", "420"), (height, width)


def shrunk(pixels: Tensor, short_side: int | None, long_side: int | None) -> Tensor:
    """(3, H', W') uint8 of (3, H, W): antialiased bilinear, sides rounded down; as it is where small enough."""
    height, width = pixels.shape[1:]
    limits = [(short_side, min(height, width)), (long_side, max(height, width))]
    to, side = min([(to, side) for to, side in limits if to], key=lambda both: both[0] / both[1], default=(1, 1))
    if to >= side:
        return pixels
    size = max(1, height * to // side), max(1, width * to // side)
    return resize(pixels[None], size, "bilinear")[0]


def upright_size(data: bytes, name: str) -> tuple[int, int]:
    """Height and width after EXIF's orientation."""
    if not data:
        raise UnreadableImage(f"{name}: the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=PIL_FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # ImageOps.exif_transpose turns these by 90 degrees
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{name}: not an image that can be read (starts with {data[:12]!r})") from error
    except Exception as error:  # on damaged files PIL raises OSError, SyntaxError, ValueError, struct.error, ...
        raise UnreadableImage(f"{name}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return (width, height) if turned else (height, width)
