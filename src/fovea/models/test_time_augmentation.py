"""Test-time augmentation: the mean prediction over several views of an image.

Sources: five crops and their mirror images, whose softmax is averaged: Krizhevsky et al. 2012 (AlexNet), section 4.1.
    Shifts: Jordan 2024, https://arxiv.org/abs/2404.00498, "Multi-crop evaluation".
Deviation: shifted views count as much as the others, and probabilities are averaged; Jordan averages logits, and those
    of the shifted images with half the weight.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as transforms

Views = Literal["flip", "flip_shift", "five_crop", "flip_five_crop"]


def views_of(images: Tensor, kind: Views, size: int) -> list[Tensor]:
    """Return the V views of the images, each (B, C, size, size).

    Args:
        images: (B, C, R, R), R >= size for crops and R = size otherwise.
        kind: "flip": the image and its mirror image, V = 2; "flip_shift": the image, the image moved down and right and
            up and left by one pixel, where the border is mirrored, and their mirror images, V = 6; "five_crop": the
            four corners and the center, V = 5; "flip_five_crop": these and their mirror images, V = 10.
        size: the side of a view.
    """
    match kind:
        case "flip":
            views = [images]
        case "flip_shift":
            padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
            views = [images, padded[..., :size, :size], padded[..., -size:, -size:]]
        case _:
            views = [*transforms.five_crop(images, [size, size])]
    return views if kind == "five_crop" else [*views, *(view.flip(-1) for view in views)]


def logits_of_mean(logits: Tensor, multilabel: bool) -> Tensor:
    """Return the logits whose probabilities are the mean of the views' probabilities.

    Single-label: log(mean of softmax) + the mean of the views' log(sum of exp), so that views with the same logits give
    these, which a loss on sigmoids needs. Multi-label: log(p / (1 - p)), p being the mean of sigmoid.

    Args:
        logits: (V, B, K), one for each view.
        multilabel: whether probabilities are sigmoids.

    Returns:
        (B, K) float32.
    """
    logits = logits.float()
    if multilabel:
        return _log_mean(F.logsigmoid(logits)) - _log_mean(F.logsigmoid(-logits))
    return _log_mean(logits.log_softmax(-1)) + logits.logsumexp(-1, keepdim=True).mean(0)


def _log_mean(logs: Tensor) -> Tensor:
    """(V, ...) logarithms -> the logarithm of the mean over V."""
    return logs.logsumexp(0) - math.log(len(logs))


class AveragedViews(nn.Module):
    """(B, 3, R, R) -> logits (B, K) of a network's mean probabilities over the views of each image."""

    def __init__(self, network: nn.Module, kind: Views, size: int, multilabel: bool) -> None:
        """For `kind` and `size` see `views_of`; the views are computed one after the other."""
        super().__init__()
        self.network, self.kind, self.size, self.multilabel = network, kind, size, multilabel

    def forward(self, images: Tensor) -> Tensor:
        logits = [self.network(view) for view in views_of(images, self.kind, self.size)]
        return logits_of_mean(torch.stack(logits), self.multilabel)
