"""The usual objective: the loss of the network's output."""

from collections.abc import Callable

from torch import Tensor, nn


def supervised(
    network: nn.Module, images: Tensor, target: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the loss and the logits.

    Args:
        network: images -> logits (B, K).
        images: (B, 3, H, W) float.
        target: (B,) int64, or (B, K) float.
        loss: (logits, target) -> scalar.
    """
    logits = network(images)  # (B, K)
    return loss(logits, target), logits
