"""The preprocessing of the images that published weights were trained and evaluated with."""

import logging
from typing import NamedTuple

log = logging.getLogger(__name__)
INTERPOLATIONS = ("bilinear", "bicubic")  # of data/pixels/crop.py


class Preprocessing(NamedTuple):
    """What published weights expect. Images are squares.

    Attributes:
        image_size: side of the training's images, in pixels.
        eval_image_size: side of evaluated images, in pixels.
        resize: the short side, in pixels, from whose middle evaluated images are cropped.
        interpolation: "bilinear" or "bicubic".
        mean: of each channel, for pixels in [0, 1].
        std: the standard deviation likewise.
    """

    image_size: int
    eval_image_size: int
    resize: int
    interpolation: str
    mean: list[float]
    std: list[float]


def known_interpolation(name: str, weights: str) -> str:
    """Return the interpolation's name, or the nearest one that crops have, with a warning."""
    if name in INTERPOLATIONS:
        return name
    used = "bicubic" if name == "lanczos" else "bilinear"
    log.warning("%s: images were resized with interpolation %s, which crops don't have: here %s", weights, name, used)
    return used
