"""Computes the loss of a batch and the batch's weight in the mean loss of an epoch."""

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
        value: scalar that the optimizer minimizes: the mean, or the sum for reduction=sum.
        mean: scalar, the mean over the known targets.
        weight: scalar, integer or float; the epoch's loss is the mean of the batches' means, weighted by this.
    """

    value: Tensor
    mean: Tensor
    weight: Tensor


class BatchLoss(nn.Module):
    """Applies any loss so that unknown labels don't count and an epoch's mean doesn't depend on the batch size.

    This class averages losses that can return a value per target: those with a `reduction` (torch.nn's, most of timm's,
    a partial of torchvision.ops.sigmoid_focal_loss) and functions that return (B, K) or (B,). In (B, K) the known
    entries count, in (B,) the rows with a known entry. For losses with a `reduction`, unknown entries of the target are
    replaced by 0 first.

    A scalar is used unchanged, as the mean over the known targets; the loss itself gets a target with -1 for unknown
    labels. loss_check.py refuses losses whose scalar counts unknown labels. Single-label targets are always known. For
    them torch's own mean is used, unless class weights or `ignore_index` make a batch's weight depend on its labels.
    """

    def __init__(self, loss: Loss, task: Literal["multiclass", "multilabel"]) -> None:
        super().__init__()
        self.multilabel = task == "multilabel"
        self.reduction = reduction_of(loss)
        self.by_class = isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and (
            loss.weight is not None or loss.ignore_index >= 0
        )
        self.per_target = self.reduction in ("mean", "sum") and (self.multilabel or self.by_class)
        self.loss = unreduced(loss) if self.per_target else loss

    def forward(self, logits: Tensor, target: Tensor) -> Measured:
        """logits (B, K); target (B,) int64, or (B, K) float with -1 where unknown."""
        filled = target.masked_fill(target == -1, 0) if self.multilabel and self.per_target else target
        loss = self.loss(logits, filled)
        counts = self._counts(target, loss.ndim)  # (B,) or (B, K)
        weight = counts.sum()
        divisor = torch.where(weight > 0, weight, 1)  # if nothing is known, the mean is 0 and not 0 / 0
        if loss.ndim == 0:
            return Measured(loss, loss / divisor if self.reduction == "sum" else loss, weight)
        total = torch.where(counts > 0, loss.float(), 0.0).sum()
        mean = total / divisor
        return Measured(total if self.reduction == "sum" else mean, mean, weight)

    def _counts(self, target: Tensor, ndim: int) -> Tensor:
        """Return the weight of each target, with as many dimensions as an unreduced loss."""
        if self.multilabel:
            known = target != -1  # (B, K)
            return known.any(1) if ndim == 1 else known
        ones = torch.ones_like(target, dtype=torch.int64)
        if target.ndim == 1:
            return self._class_weights(target) if self.by_class else ones[:, None] if ndim == 2 else ones
        return ones[:, 0] if ndim < 2 else ones

    def _class_weights(self, labels: Tensor) -> Tensor:
        """Return the labels' class weights, (B,), whose sum torch's cross-entropy divides by; 0 for `ignore_index`."""
        assert isinstance(self.loss, nn.CrossEntropyLoss | nn.NLLLoss)
        weight, counted = self.loss.weight, labels != self.loss.ignore_index
        if weight is None:
            return counted.long()
        return weight[labels.clamp(min=0)] * counted


def reduction_of(loss: Loss) -> str | None:
    """Return an object's `reduction`, or a function's or partial's argument of that name; None if there is none."""
    if isinstance(loss, nn.Module) or not (inspect.isfunction(loss) or isinstance(loss, functools.partial)):
        return getattr(loss, "reduction", None)
    parameter = inspect.signature(loss).parameters.get("reduction")
    return parameter.default if parameter else None


def unreduced(loss: Any) -> Loss:
    """Return a copy of the loss with `reduction="none"`."""
    if inspect.isfunction(loss) or isinstance(loss, functools.partial):
        return functools.partial(loss, reduction="none")
    copied = copy.copy(loss)
    copied.reduction = "none"
    return copied
