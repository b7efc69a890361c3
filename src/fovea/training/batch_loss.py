"""The loss of a batch, and how much the batch counts in the loss of an epoch."""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


class Measured(NamedTuple):
    """A batch's loss.

    Attributes:
        value: scalar; what the optimizer minimizes: the mean, or the sum for reduction=sum.
        mean: scalar, the mean over what is known.
        weight: scalar, integer or float; the epoch's loss is the mean of the batches' means, weighted by this.
    """

    value: Tensor
    mean: Tensor
    weight: Tensor


class BatchLoss(nn.Module):
    """Applies any loss so that unknown labels don't count and an epoch's mean doesn't depend on the batch size.

    A loss that can be had for each target is averaged here: one with a `reduction` (torch.nn's, most of timm's, a
    partial of torchvision.ops.sigmoid_focal_loss), or a function that returns (B, K) or (B,). Of (B, K) the known
    entries count, of (B,) the rows with a known entry. Before such a loss with a `reduction` sees the target, unknown
    entries become 0.

    A scalar is taken as it is, as the mean over what is known; the target then has -1 where a label is unknown.
    loss_check.py refuses a scalar that counts unknown labels. Single-label targets are always known, and torch's
    own mean is taken where no class weight and no `ignore_index` makes a batch's weight depend on its labels.
    """

    def __init__(self, loss: Loss, task: Literal["multiclass", "multilabel"]) -> None:
        super().__init__()
        self.multilabel = task == "multilabel"
        self.reduction = reduction_of(loss)
        self.by_class = isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and (
            loss.weight is not None or loss.ignore_index >= 0
        )
        self.each = self.reduction in ("mean", "sum") and (self.multilabel or self.by_class)
        self.loss = unreduced(loss) if self.each else loss

    def forward(self, logits: Tensor, target: Tensor) -> Measured:
        """logits (B, K); target (B,) int64, or (B, K) float with -1 where unknown."""
        seen = target.masked_fill(target == -1, 0) if self.multilabel and self.each else target
        loss = self.loss(logits, seen)
        counts = self._counts(target, loss.ndim)  # (B,) or (B, K)
        weight = counts.sum()
        at_least = torch.where(weight > 0, weight, 1)  # 0 where nothing is known, not 0 / 0
        if loss.ndim == 0:
            return Measured(loss, loss / at_least if self.reduction == "sum" else loss, weight)
        total = torch.where(counts > 0, loss.float(), 0.0).sum()
        mean = total / at_least
        return Measured(total if self.reduction == "sum" else mean, mean, weight)

    def _counts(self, target: Tensor, ndim: int) -> Tensor:
        """How much each target counts; as many dimensions as the loss, where that has some."""
        if self.multilabel:
            known = target != -1  # (B, K)
            return known.any(1) if ndim == 1 else known
        ones = torch.ones_like(target, dtype=torch.int64)
        if target.ndim == 1:
            return self._class_weights(target) if self.by_class else ones[:, None] if ndim == 2 else ones
        return ones[:, 0] if ndim < 2 else ones

    def _class_weights(self, labels: Tensor) -> Tensor:
        """(B,): the labels' weights, as torch's cross-entropy divides by; 0 for the label `ignore_index`."""
        assert isinstance(self.loss, nn.CrossEntropyLoss | nn.NLLLoss)
        weight, counted = self.loss.weight, labels != self.loss.ignore_index
        if weight is None:
            return counted.long()
        return weight[labels.clamp(min=0)] * counted


def reduction_of(loss: Loss) -> str | None:
    """An object's `reduction`, a partial's argument or a function's default; None where it has none."""
    if isinstance(loss, nn.Module) or not (inspect.isfunction(loss) or isinstance(loss, functools.partial)):
        return getattr(loss, "reduction", None)
    parameter = inspect.signature(loss).parameters.get("reduction")
    return parameter.default if parameter else None


def unreduced(loss: Any) -> Loss:
    """The same loss with `reduction="none"`."""
    if inspect.isfunction(loss) or isinstance(loss, functools.partial):
        return functools.partial(loss, reduction="none")
    each = copy.copy(loss)
    each.reduction = "none"
    return each
