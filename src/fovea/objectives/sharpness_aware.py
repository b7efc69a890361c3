"""Sharpness-aware minimization (SAM): an objective whose gradient is that of the worst weights nearby.

Source: Foret et al. 2020, https://arxiv.org/abs/2010.01412, algorithm 1 and eq. 2 with p = 2. As there, each device
perturbs the weights by the gradient of its own images; with accumulated gradients, each batch does ("m-sharpness").
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import get_total_norm


def ascent(gradients: Mapping[str, Tensor], rho: float) -> dict[str, Tensor]:
    """Return the step of length rho along the gradient, rho g / ||g||; the norm is that of all tensors together.

    Args:
        gradients: by the parameters' names.
        rho: at least 0.
    """
    length = get_total_norm(list(gradients.values())) + 1e-12  # a gradient of zeros gives a step of zeros
    return {name: gradient * (rho / length) for name, gradient in gradients.items()}


def sharpness_aware(
    network: nn.Module,
    images: Tensor,
    target: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    rho: float,
) -> tuple[Tensor, Tensor]:
    """Return the loss at the weights w + rho g / ||g||, where g is the gradient of the loss at w, and the logits at w.

    The gradient of the returned loss goes to w, and the perturbation is a constant. The network's weights are never
    changed, and its buffers only by the pass at w, so BatchNorm's statistics are those of w. A step takes two forward
    and two backward passes.

    Args:
        network: images -> logits (B, K).
        images: (B, 3, H, W) float.
        target: (B,) int64, or (B, K) float.
        loss: (logits, target) -> scalar.
        rho: the radius, at least 0; with 0 the loss is that at w.
    """
    logits = network(images)
    parameters = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    total = loss(logits, target) * len(images)  # not the mean, whose gradient may be too small for float16
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    gradients = {name: grad for name, grad in zip(parameters, found, strict=True) if grad is not None}
    nearby = {name: parameters[name] + step for name, step in ascent(gradients, rho).items()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return loss(functional_call(network, nearby | buffers, (images,)), target), logits.detach()
