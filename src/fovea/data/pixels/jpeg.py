"""Decodes only the part of a JPEG that a view needs: no rows below it, and a reduced resolution if that is enough.

libjpeg-turbo decodes from the top. To stop below the view, the height in a copy of the header is reduced; the decoded
pixels stay identical (one more coding unit is kept, because chroma is interpolated across the edge). libjpeg-turbo also
decodes at a half, a quarter or an eighth of the size, at a fraction of the cost.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from torch import Tensor

from fovea.data.pixels.crop import View
from fovea.data.pixels.header import Frame, Header

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> function that turns (H, W, 3) upright
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}


class Jpeg(NamedTuple):
    """An encoded gray or color JPEG that is not truncated; `height` and `width` are those of the upright image."""

    data: bytes | memoryview
    frame: Frame

    @property
    def height(self) -> int:
        return self.frame.width if self.frame.orientation >= 5 else self.frame.height

    @property
    def width(self) -> int:
        return self.frame.height if self.frame.orientation >= 5 else self.frame.width


def as_jpeg(data: bytes | memoryview, header: Header | None) -> Jpeg | None:
    """Return the file as a Jpeg; None for other files, CMYK, and files without the end-of-image marker (truncated)."""
    frame = header.frame if header else None
    if frame is None or frame.components not in (1, 3) or data[-2:] != b"\xff\xd9":
        return None
    return Jpeg(data, frame)


def decode_view(image: Jpeg, view: View, draft: int) -> tuple[Tensor, View]:
    """Decode the part that `view` needs: upright pixels (3, H', W') uint8 and the same view into them.

    `draft` is that of the crop.

    Raises:
        ValueError: the file is damaged. If rows are left out, libjpeg-turbo repairs small damage instead.
    """
    frame = image.frame
    factor = next((f for f in (8, 4, 2) if draft and shrinks_by(view, draft * f)), 1)
    rows = _rows_needed(frame, view)
    data = image.data if rows == frame.height else _with_height(image, rows)
    size = {"min_height": -(-rows // factor), "min_width": -(-frame.width // factor), "min_factor": factor}
    # Not strict with a reduced height, because the decoder then reports the rest of the file as damage.
    stored = simplejpeg.decode_jpeg(data, strict=rows == frame.height, **size)
    pixels = np.ascontiguousarray(UPRIGHT[frame.orientation](stored))
    return torch.from_numpy(pixels).permute(2, 0, 1), scaled_down(view, factor) if factor > 1 else view  # (3, H', W')


def _rows_needed(frame: Frame, view: View) -> int:
    if not frame.sequential or frame.orientation != 1:
        return frame.height
    units = -(-(view.top + view.height) // frame.unit) + 1
    return min(frame.height, units * frame.unit)


def _with_height(image: Jpeg, rows: int) -> bytearray:
    """Copy the file with another height in its header."""
    data = bytearray(image.data)
    data[image.frame.height_at : image.frame.height_at + 2] = rows.to_bytes(2, "big")
    return data


def shrinks_by(view: View, factor: int) -> bool:
    """Return whether both sides of the box are resized to 1 / factor or less."""
    return view.height >= factor * view.resized_height and view.width >= factor * view.resized_width


def scaled_down(view: View, factor: int) -> View:
    """Return the view for an image of 1 / factor of the size; the box's edges are rounded to whole pixels."""
    top, left = round(view.top / factor), round(view.left / factor)
    bottom, right = round((view.top + view.height) / factor), round((view.left + view.width) / factor)
    return view._replace(top=top, left=left, height=bottom - top, width=right - left)
