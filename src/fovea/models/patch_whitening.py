"""Filters that whiten image patches, for a network's first convolution.

Source: Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.2, after https://github.com/tysam-code/hlb-CIFAR10.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def patch_products(images: Tensor, kernel: tuple[int, ...]) -> tuple[Tensor, int]:
    """Return the sum of x x^T over all patches x of the images, (D, D) float64, and the number of patches.

    Args:
        images: (B, C, H, W) float.
        kernel: height and width of a patch; D = C * height * width.
    """
    patches = F.unfold(images, kernel).transpose(1, 2).flatten(0, 1).double()  # (patches, D)
    return patches.T @ patches, len(patches)


def whitening_filters(moments: Tensor, epsilon: float) -> Tensor:
    """Return the filters W and -W, (2D, D); the mean of W x (W x)^T over the patches is about the identity matrix.

    Row i of W is e_i / sqrt(v_i + epsilon), for the eigenvectors e and eigenvalues v of the patches' mean product. As
    in the source, the patches' mean is not subtracted.

    Args:
        moments: the mean of x x^T over patches x, (D, D).
        epsilon: >= 0, in squared units of x; limits the filters of patterns that hardly occur.
    """
    values, vectors = torch.linalg.eigh(moments)
    filters = vectors.T / (values[:, None] + epsilon).sqrt()
    return torch.cat([filters, -filters])
