"""Small JPEGs of images in one zip file in a run's folder, so that a report can be made again without the data."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from fovea.files import atomic_write

SIDE = 112  # pixels of the longer side
QUALITY = 72
FILE = "thumbnails.zip"


def thumbnail(pixels: Tensor) -> bytes:
    """Return a JPEG of an image (3, H, W) uint8, resized by `resized`."""
    data = io.BytesIO()
    resized(pixels).save(data, "JPEG", quality=QUALITY)
    return data.getvalue()


def resized(pixels: Tensor, side: int = SIDE) -> Image.Image:
    """Return an image (3, H, W) uint8 with its longer side of at most `side` pixels.

    An image that is smaller is enlarged by a whole number, so that its pixels stay sharp.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    times = side // max(image.size)
    if times > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def write(folder: Path, images: Mapping[str, bytes]) -> None:
    """Write JPEGs by name, such as "test/12"."""
    with atomic_write(folder / FILE) as temporary, zipfile.ZipFile(temporary, "w") as archive:  # JPEGs don't shrink
        for name, data in images.items():
            archive.writestr(zipfile.ZipInfo(name), data)


def read(folder: Path) -> dict[str, bytes]:
    """Return the JPEGs by name; an empty dict if there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    if not (folder / FILE).is_file():
        return {}
    try:
        with zipfile.ZipFile(folder / FILE) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{folder / FILE} is damaged ({error}): run src/evaluate.py for a new one") from error
