"""A small gray copy of an image and its difference hash, by which near-duplicates are found.

Source: Krawetz 2013, "Kind of Like That", https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html
Deviations: pixels are averaged by torch's antialiased bilinear kernel and then in 2 x 2 squares, and only a difference
above `MARGIN` counts, so that noise in even areas changes no bit.
"""

import numpy as np
from torch import Tensor

from fovea.data.pixels.render import resize

ROWS, COLUMNS = 16, 18  # of the gray copy: 2 x 2 pixels for each of the 8 x 9 that the hash compares
GRAY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue; ITU-R BT.601, as PIL's "L"
MARGIN = 1.0  # of 255


def gray_copy(pixels: Tensor) -> np.ndarray:
    """Shrink an image (3, H, W) uint8 to (ROWS, COLUMNS) uint8 in gray; its aspect ratio is not kept."""
    small = resize(pixels[None], (ROWS, COLUMNS), "bilinear")[0].permute(1, 2, 0).numpy()  # (16, 18, 3)
    return (small @ GRAY + 0.5).astype(np.uint8)


def difference_hashes(copies: np.ndarray) -> np.ndarray:
    """Return (N,) uint64 of gray copies (N, ROWS, COLUMNS) uint8: bit 8 r + c is 1 if pixel c + 1 of row r is brighter.

    The pixels are those of 8 rows and 9 columns; brighter means by more than MARGIN than pixel c.
    """
    cells = copies.reshape(-1, ROWS // 2, 2, COLUMNS // 2, 2).mean((2, 4), dtype=np.float32)  # (N, 8, 9)
    bits = cells[:, :, 1:] - cells[:, :, :-1] > MARGIN  # (N, 8, 8)
    return np.packbits(bits.reshape(-1, 64), axis=1, bitorder="little").view("<u8").ravel()
