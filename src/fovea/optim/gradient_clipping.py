"""Adaptive gradient clipping (AGC): each unit's gradient is limited relative to the unit's weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

LEAST_GRADIENT = 1e-6  # against division by zero


def unit_norm(tensor: Tensor) -> Tensor:
    """Return the 2-norm of each row of the first axis, (N, 1, ...); a scalar or vector is one unit, ()."""
    if tensor.ndim <= 1:
        return torch.linalg.vector_norm(tensor)
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)


@torch.no_grad()
def clip_adaptively(parameters: Iterable[nn.Parameter], clipping: float = 0.01, eps: float = 1e-3) -> None:
    """Multiply the gradient G of each unit with the weights W by min(1, clipping max(|W|, eps) / |G|), in place.

    A unit is an output channel of a convolution or a row of a linear layer; a bias or a scale of a normalisation layer
    is one unit as a whole. |.| is the 2-norm. A parameter without a gradient is left as it is.

    Source: Brock et al. 2021, https://arxiv.org/abs/2102.06171, eq. 3; the units are those of the authors' code
    (https://github.com/google-deepmind/deepmind-research, nfnets/optim.py).

    Args:
        parameters: all but the classifier's, in the paper.
        clipping: > 0; the paper has 0.01 for batches of 4096 images, and finds that smaller ones allow more.
        eps: > 0; so that weights that are zero at first can be trained.
    """
    for parameter in parameters:
        if parameter.grad is not None:
            largest = unit_norm(parameter).clamp(min=eps).mul_(clipping)
            parameter.grad.mul_((largest / unit_norm(parameter.grad).clamp(min=LEAST_GRADIENT)).clamp_(max=1))
