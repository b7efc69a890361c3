"""Computes the loss of a batch, or what a training minimizes instead, and the batch's weight in an epoch's mean."""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

HALVES = (torch.float16, torch.bfloat16)
Loss = Callable[[Tensor, Tensor], Tensor]  # logits, target -> loss
Objective = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]  # network, images, target -> loss, logits


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
        """Measure a batch; a loss gets logits of half precision as float32.

        Args:
            logits: (B, K).
            target: (B,) int64, or (B, K) float with -1 where unknown.
        """
        logits = logits.float() if logits.dtype in HALVES else logits
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


class MeasuredObjective:
    """Gives an objective the loss of the config, and measures what it returns as BatchLoss measures a loss.

    So an objective computes with plain scalars. The loss that it gets is the mean over the known targets, and the loss
    that it returns has to be a mean too. Where the config's loss is a sum over the batch (`reduction="sum"`), the
    optimizer minimizes the returned mean times the batch's weight, so that the learning rate keeps its meaning.

    It is not a module: an objective may hold another network, which must be in no checkpoint and not wrapped by DDP.
    """

    def __init__(self, make: Callable[[Loss], Objective], loss: BatchLoss) -> None:
        """Args:
        make: makes the objective from its loss, (logits (B, K), target) -> scalar.
        loss: the config's.
        """
        self.loss, self.objective = loss, make(self._mean_loss)
        self.last: Measured | None = None  # the loss that the objective has asked for last in this step

    def __call__(self, network: nn.Module, images: Tensor, target: Tensor) -> tuple[Measured, Tensor]:
        """Return the measured loss and the logits (B, K).

        The batch's weight in the epoch's mean is that of the last call of the config's loss; its number of images if
        the objective doesn't call the loss.

        Raises:
            ValueError: the objective's loss is not a scalar, or its logits are not (B, K).
        """
        self.last = None
        loss, logits = self.objective(network, images, target)
        if loss.ndim or logits.ndim != 2 or len(logits) != len(target):
            raise ValueError(
                f"objective: it returned a loss of shape {tuple(loss.shape)} and logits of shape "
                f"{tuple(logits.shape)} for {len(target)} images; it has to return a scalar and logits (B, K)"
            )
        measured, self.last = self._measured(loss, len(target)), None
        return measured, logits

    def _mean_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        self.last = self.loss(logits, target)
        return self.last.mean

    def _measured(self, loss: Tensor, images: int) -> Measured:
        last = self.last
        if last is None:
            return Measured(loss, loss, torch.tensor(images, device=loss.device))
        if loss is last.mean:
            return last
        summed = loss * torch.where(last.weight > 0, last.weight, 1) if self.loss.reduction == "sum" else loss
        return Measured(summed, loss, last.weight)


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
