"""The Kullback-Leibler divergence between the predictions that two sets of logits stand for."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F


def divergence(first: Tensor, second: Tensor, task: Literal["multiclass", "multilabel"]) -> Tensor:
    """Return KL(P || Q) = sum p log(p / q) in nats, a scalar; P is of the first logits and Q of the second.

    For `multiclass`, P and Q are the softmax over the classes, and the mean over the images is returned. For
    `multilabel`, they are the sigmoid of each class, with the two outcomes present and absent, and the mean over the
    images and the classes is returned.

    Args:
        first: (B, K); the gradient flows through both.
        second: (B, K).
        task: what the logits stand for.
    """
    first, second = first.float(), second.float()
    if task == "multiclass":
        return F.kl_div(second.log_softmax(1), first.log_softmax(1), reduction="batchmean", log_target=True)
    present = first.sigmoid() * (F.logsigmoid(first) - F.logsigmoid(second))
    absent = (-first).sigmoid() * (F.logsigmoid(-first) - F.logsigmoid(-second))
    return (present + absent).mean()
