"""Encodes small images as data URIs, so that a page contains its images."""

import base64
from collections.abc import Sequence

import simplejpeg
from torch import Tensor

QUALITIES = (90, 75, 60, 40, 20, 10)  # of a JPEG, tried in this order until all images fit


def data_uris(images: Sequence[Tensor], most_bytes: int) -> list[str]:
    """Return a `data:image/jpeg` URI for each image, at the best quality with which all fit into `most_bytes`.

    If they do not fit at the lowest quality either, they are returned at the lowest.

    Args:
        images: each (3, H, W) uint8.
        most_bytes: of all URIs together.
    """
    uris: list[str] = []
    for quality in QUALITIES:
        uris = [_data_uri(image, quality) for image in images]
        if sum(map(len, uris)) <= most_bytes:
            break
    return uris


def _data_uri(image: Tensor, quality: int) -> str:
    pixels = image.permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
    encoded = simplejpeg.encode_jpeg(pixels, quality, "RGB", "444" if quality >= 75 else "420")
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"
