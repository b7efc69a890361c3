"""An objective that makes a network's predictions agree under two draws of its dropout.

Source: Liang et al. 2021 (R-Drop), https://arxiv.org/abs/2106.14448, with the scale of the authors' code: the mean of
the two losses, not their sum as in eq. 3, so that a learning rate fits both with and without it.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fovea.objectives.divergence import divergence

Task = Literal["multiclass", "multilabel"]


def symmetric_divergence(first: Tensor, second: Tensor, task: Task) -> Tensor:
    """Return (KL(P || Q) + KL(Q || P)) / 2 in nats, a scalar, of logits (B, K); see `divergence`."""
    return (divergence(first, second, task) + divergence(second, first, task)) / 2


class RDrop:
    """Minimizes the mean loss of two passes, plus `weight` times the symmetric divergence of their predictions.

    Each image is in the batch twice, in one pass of the network, so that BatchNorm's statistics are updated once. A
    step takes the time and the memory of a batch twice as large.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], task: Task, weight: float) -> None:
        """Args:
        loss: (logits, target) -> scalar.
        task: what the logits stand for.
        weight: of the divergence, at least 0.
        """
        self.loss, self.task, self.weight = loss, task, weight
        self.is_random = False  # True once a batch has shown that the network is random

    def __call__(self, network: nn.Module, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the first pass's logits (B, K).

        Raises:
            ValueError: the first batch's passes give the same logits and draw no random numbers from torch, because
                the network has no dropout.
        """
        generator: Any = torch if images.device.type == "cpu" else torch.get_device_module(images.device)
        before = None if self.is_random else generator.get_rng_state()
        first, second = network(torch.cat([images, images])).chunk(2)  # (B, K) each
        # Stochastic depth whose branches still give zeros has equal logits; a layer may have a generator of its own.
        if before is not None and torch.equal(before, generator.get_rng_state()) and torch.equal(first, second):
            raise ValueError(
                "objective=r_drop: both passes of an image are equal, so the network has no dropout to compare\n"
                "Choose a network with dropout (model=mobilenet_v2, or +model.drop_rate=0.1 with model=timm)"
            )
        self.is_random = True
        supervised = (self.loss(first, target) + self.loss(second, target)) / 2
        return supervised + self.weight * symmetric_divergence(first, second, self.task), first
