"""No more of a JPEG than a view needs: not the rows below it, and not the resolution that it throws away.

libjpeg-turbo has to read a file from its top, but it can stop: a copy of the file that says it is less high ends below
the view, and its pixels are the same bits (the units below are left out, and one more is kept, as chroma is
interpolated over their edge). And it decodes to a half, a quarter or an eighth of the size at a fraction of the cost.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from torch import Tensor

from fovea.data.pixels.crop import View
from fovea.data.pixels.header import Frame, Header

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> what turns (H, W, 3) upright
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
    """A JPEG of gray or colour that ends as it should, not decoded yet. `height` and `width` are upright."""

    data: bytes | memoryview
    frame: Frame

    @property
    def height(self) -> int:
        return self.frame.width if self.frame.orientation >= 5 else self.frame.height

    @property
    def width(self) -> int:
        return self.frame.height if self.frame.orientation >= 5 else self.frame.width


def as_jpeg(data: bytes | memoryview, header: Header | None) -> Jpeg | None:
    """None for other files, for four colours (CMYK), and for a file that doesn't end with the end-of-image marker:
    nothing else would tell that it is truncated.
    """
    frame = header.frame if header else None
    if frame is None or frame.components not in (1, 3) or data[-2:] != b"\xff\xd9":
        return None
    return Jpeg(data, frame)


def decode_view(image: Jpeg, view: View, draft: int) -> tuple[Tensor, View]:
    """(3, H', W') uint8, upright, with all that `view` needs, and the view into it; `draft` is the crop's.

    Raises:
        ValueError: the file is damaged; where a part of it is left out, beyond what libjpeg-turbo mends.
    """
    data: bytes | bytearray | memoryview = image.data
    frame = image.frame
    factor = next((f for f in (8, 4, 2) if draft and shrinks(view, draft * f)), 1)
    rows = frame.height
    if frame.sequential and frame.orientation == 1:
        units = -(-(view.top + view.height) // frame.unit) + 1
        rows = min(rows, units * frame.unit)
    if rows < frame.height:
        shorter = bytearray(data)
        shorter[frame.height_at : frame.height_at + 2] = rows.to_bytes(2, "big")
        data = shorter
    least = {"min_height": -(-rows // factor), "min_width": -(-frame.width // factor), "min_factor": factor}
    # That the rest of the file is left over is as good as damage to the decoder, so then it can't be strict.
    stored = simplejpeg.decode_jpeg(data, strict=rows == frame.height, **least)
    pixels = np.ascontiguousarray(UPRIGHT[frame.orientation](stored))
    return torch.from_numpy(pixels).permute(2, 0, 1), smaller(view, factor) if factor > 1 else view  # (3, H', W')


def shrinks(view: View, times: int) -> bool:
    """Whether the box is resized to a `times`-th of its sides, or less."""
    return view.height >= times * view.resized_height and view.width >= times * view.resized_width


def smaller(view: View, factor: int) -> View:
    """The view into an image of a `factor`-th of the size; the box's edges go to the nearest pixel."""
    top, left = round(view.top / factor), round(view.left / factor)
    bottom, right = round((view.top + view.height) / factor), round((view.left + view.width) / factor)
    return view._replace(top=top, left=left, height=bottom - top, width=right - left)
