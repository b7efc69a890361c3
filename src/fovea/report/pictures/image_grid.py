"""Draws images with their labels side by side, as one picture."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from fovea.report.pictures.drawing import BLACK, WHITE, ascii_text, font, height, wrapped
from fovea.report.thumbnail_file import resized

SIDE, GAP, COLUMNS, LINES = 192, 8, 4, 2  # pixels of the longer side and between; images in a row; lines of a label


def draw(images: Tensor, labels: Sequence[str]) -> np.ndarray:
    """Return the picture, (H, W, 3) uint8; image n begins at `place(n)`.

    Args:
        images: (B, 3, h, w) uint8; B >= 1.
        labels: B texts, shortened to LINES lines below the image.
    """
    of = font(13)
    last = place(len(images) - 1)[1]
    picture = Image.new("RGB", (GAP + min(len(images), COLUMNS) * (SIDE + GAP), last + _tile_height()), WHITE)
    draw = ImageDraw.Draw(picture)
    for n, (image, label) in enumerate(zip(images, labels, strict=True)):
        x, y = place(n)
        picture.paste(resized(image, SIDE), (x, y))
        for number, line in enumerate(wrapped(ascii_text(label), of, SIDE, LINES)):
            draw.text((x, y + SIDE + 3 + number * height(of)), line, BLACK, of)
    return np.asarray(picture)


def place(n: int) -> tuple[int, int]:
    """Return the (x, y) of the upper left corner of image n."""
    return GAP + n % COLUMNS * (SIDE + GAP), GAP + n // COLUMNS * _tile_height()


def _tile_height() -> int:
    return SIDE + 3 + LINES * height(font(13)) + GAP
