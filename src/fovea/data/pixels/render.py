"""Crops and resizes pixels as a `View` describes, giving the network's square input."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fovea.data.pixels.crop import View

KERNELS: dict[str, Callable[..., Tensor]] = {  # the kernels of torch.nn.functional.interpolate, which has no `out`
    "bilinear": torch._C._nn._upsample_bilinear2d_aa,
    "bicubic": torch._C._nn._upsample_bicubic2d_aa,
}


def render(pixels: Tensor, view: View, interpolation: str, out: Tensor) -> None:
    """Write the part of `pixels` (3, H, W) uint8 that `view` describes into `out` (3, S, S) uint8.

    Crops and mirrors first, then resizes once with antialiasing. torch's uint8 kernels are three times as fast on
    channels-last memory, which decoders return and which is kept here.
    """
    top, left, height, width, resized_height, resized_width, y, x, flip = view
    box = pixels.narrow(1, top, height).narrow(2, left, width).unsqueeze(0)  # (1, 3, h, w)
    if flip:
        box, x = box.flip(-1), resized_width - x - out.shape[-1]
    resized = (resized_height, resized_width)
    if y == x == 0 and resized == out.shape[-2:] and out.device.type == "cpu":
        resize_into(box, interpolation, out[None])
        return
    if (height, width) != resized:
        box = resize(box, resized, interpolation)
    out.copy_(window(box, y, x, out.shape[-1])[0])


def resize_into(images: Tensor, interpolation: str, out: Tensor) -> None:
    """Resize like `resize` but write directly into `out`, which saves a tenth of the whole pipeline's time."""
    if images.shape == out.shape:
        out.copy_(images)
    else:
        KERNELS[interpolation](images, out.shape[-2:], False, None, out=out)


def resize(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Resize to (B, 3, *size) uint8 with antialiasing; on a GPU, via float, values may differ by 1."""
    if images.device.type == "cpu":
        images = images.contiguous(memory_format=torch.channels_last)
        return F.interpolate(images, size, mode=interpolation, antialias=True)
    return F.interpolate(images.float(), size, mode=interpolation, antialias=True).round_().clamp_(0, 255).byte()


def window(images: Tensor, y: int, x: int, size: int) -> Tensor:
    """Cut out (B, 3, size, size) from row `y` and column `x`; pixels outside of the images are 0."""
    height, width = images.shape[-2:]
    missing = [max(-x, 0), max(x + size - width, 0), max(-y, 0), max(y + size - height, 0)]
    inside = images[..., max(y, 0) : max(y + size, 0), max(x, 0) : max(x + size, 0)]
    return F.pad(inside, missing) if any(missing) else inside
