"""Objectives that train a network on a teacher's predictions besides the labels.

Both return (1 - alpha) * loss + alpha * the distance from the teacher. The teacher gets the images that the network
gets, mixed ones too: Beyer et al. 2021, https://arxiv.org/abs/2106.05237.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from fovea.objectives.divergence import divergence

Task = Literal["multiclass", "multilabel"]


def soft_distance(logits: Tensor, teacher: Tensor, temperature: float, task: Task) -> Tensor:
    """Return T^2 KL(teacher's prediction || network's prediction), a scalar, both at temperature T.

    A prediction at temperature T is that of the logits / T. The factor T^2 keeps the gradient's size when T changes.
    See `divergence` for single-label and multi-label predictions; unknown labels count, as the teacher predicts them.

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2.

    Args:
        logits: (B, K).
        teacher: (B, K), the teacher's logits.
        temperature: T > 0.
        task: what the logits stand for.
    """
    return temperature**2 * divergence(teacher / temperature, logits / temperature, task)


def hard_distance(logits: Tensor, teacher: Tensor, task: Task) -> Tensor:
    """Return the mean cross-entropy, a scalar in nats, of the network's prediction to the teacher's decision.

    The decision is the most probable class, or every class with a probability of at least 0.5 (multi-label; the mean
    is over the classes too).

    Source: Touvron et al. 2020 (DeiT), https://arxiv.org/abs/2012.12877, eq. 3.
    """
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(logits.float(), (teacher >= 0).float())
    return F.cross_entropy(logits.float(), teacher.argmax(1))


def soft_distillation(
    network: nn.Module,
    images: Tensor,
    target: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    teacher: Callable[[Tensor], Tensor],
    task: Task,
    alpha: float,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Return (1 - alpha) * loss + alpha * `soft_distance`, and the logits (B, K).

    Args:
        network: images -> logits (B, K).
        images: (B, 3, H, W) float.
        target: (B,) int64, or (B, K) float.
        loss: (logits, target) -> scalar.
        teacher: images -> logits (B, K), without a gradient.
        task: what the logits stand for.
        alpha: in [0, 1]; with 1 the labels are not used.
        temperature: T > 0.
    """
    logits = network(images)
    distance = soft_distance(logits, teacher(images), temperature, task)
    return (1 - alpha) * loss(logits, target) + alpha * distance, logits


def hard_distillation(
    network: nn.Module,
    images: Tensor,
    target: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    teacher: Callable[[Tensor], Tensor],
    task: Task,
    alpha: float,
) -> tuple[Tensor, Tensor]:
    """Return (1 - alpha) * loss + alpha * `hard_distance`, and the logits (B, K); see `soft_distillation`."""
    logits = network(images)
    distance = hard_distance(logits, teacher(images), task)
    return (1 - alpha) * loss(logits, target) + alpha * distance, logits
