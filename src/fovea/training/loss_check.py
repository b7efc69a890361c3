"""Tries a loss on a made-up batch before training, to find what would go wrong without an error."""

import copy
import logging
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fovea.data.index import Unknown
from fovea.training.batch_loss import BatchLoss
from fovea.training.meter import MeanLoss

log = logging.getLogger(__name__)
IMAGES, FIRST = 12, 3  # of the batch, and of its first part


def check_loss(loss: BatchLoss, num_classes: int, unknown: Unknown) -> None:
    """Warns where the loss of an epoch depends on the batch size; finds out whether a scalar is a sum over the batch.

    Args:
        unknown: what of the data's labels is.

    Raises:
        ValueError: the loss doesn't take such targets, counts labels that are unknown (-1), or takes the numbers for
            present and absent (1 and 0) for something else.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # a loss may draw random numbers
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        trial = copy.deepcopy(loss)
        logits, target = torch.randn(IMAGES, num_classes), _target(loss.multilabel, num_classes)
        gradient = _gradient(trial, logits, target)
        _check_direction(loss, gradient, target)
        if unknown != "nothing":
            target = _with_unknown(target, unknown)
            _check_unknown(trial, logits, target)
        if not _is_mean(trial, logits, target):
            _take_for_a_sum(loss, trial, logits, target)


def name_of(loss: BatchLoss) -> str:
    """A class's or function's name."""
    inner: Any = loss.loss
    while hasattr(inner, "func"):
        inner = inner.func
    return inner.__name__ if hasattr(inner, "__name__") else type(inner).__name__


def _target(multilabel: bool, num_classes: int) -> Tensor:
    """(B,) int64 or (B, K) float; each class is present in some images and absent in others."""
    if not multilabel:
        return torch.arange(IMAGES) % num_classes
    places = torch.arange(IMAGES)[:, None] + torch.arange(num_classes)
    return (places % 2).float()


def _with_unknown(target: Tensor, unknown: Unknown) -> Tensor:
    """Two whole rows, and of some others single labels, become -1."""
    target = target.clone()
    target[[0, FIRST]] = -1
    if unknown == "labels" and target.shape[1] > 1:
        target[1::2, 0] = -1
    return target


def _gradient(loss: BatchLoss, logits: Tensor, target: Tensor) -> Tensor:
    """(B, K), of the loss by the logits.

    Raises:
        ValueError: the loss can't be applied, or is no number for each batch, image or label.
    """
    logits = logits.clone().requires_grad_()
    try:
        value = loss(logits, target).value
        (gradient,) = torch.autograd.grad(value, logits)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError) as error:
        kind = "(B, K) float, 0 or 1" if loss.multilabel else "(B,) int64"
        raise ValueError(
            f"loss: {name_of(loss)} can't be applied to logits (B, K) and this data's targets, {kind}:\n"
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}\n"
            f"here B = {IMAGES} and K = {logits.shape[1]}; loss={'bce' if loss.multilabel else 'cross_entropy'} can"
        ) from error
    return gradient


def _check_direction(loss: BatchLoss, gradient: Tensor, target: Tensor) -> None:
    """The loss must fall with some logits of present classes and rise with some of absent ones."""
    present = target == 1 if loss.multilabel else F.one_hot(target, gradient.shape[1]).bool()
    if (gradient[present] < 0).any() and ((gradient[~present] > 0).any() or present.all()):
        return
    what = f"loss: {name_of(loss)} does not lower the logits of classes that are absent and raise those of present ones"
    if loss.multilabel:
        raise ValueError(f"{what}.\nSome losses expect -1 for absent; here absent is 0 and -1 unknown. Take loss=bce")
    log.warning("%s: it may expect log-probabilities, which loss=cross_entropy computes itself", what)


def _check_unknown(loss: BatchLoss, logits: Tensor, target: Tensor) -> None:
    remedy = "Return it unreduced, (B, K), and unknown labels are masked, or take loss=bce"
    gradient = _gradient(loss, logits, target)
    if gradient[target == -1].any() or not gradient.isfinite().all():
        raise ValueError(
            f"loss: {name_of(loss)} counts unknown labels (-1), of which this data has some: it must leave them out.\n"
            f"{remedy}"
        )
    nothing = torch.full_like(target, -1)
    if not loss(logits, nothing).value.isfinite() or not _gradient(loss, logits, nothing).isfinite().all():
        raise ValueError(f"loss: {name_of(loss)} is no number where a batch's labels are all unknown (-1).\n{remedy}")


def _is_mean(loss: BatchLoss, logits: Tensor, target: Tensor) -> bool:
    """Whether the mean of two batches, weighted, is that of both as one."""
    epoch = MeanLoss()
    for part in (slice(FIRST), slice(FIRST, None)):
        epoch.update(*loss(logits[part], target[part])[1:])
    return torch.allclose(epoch.compute(), loss(logits, target).mean.float(), rtol=1e-4, atol=1e-6)


def _take_for_a_sum(loss: BatchLoss, trial: BatchLoss, logits: Tensor, target: Tensor) -> None:
    trial.reduction = "sum"
    if _is_mean(trial, logits, target):
        loss.reduction = "sum"
        log.info("the loss %s is a sum over the batch: its mean is logged", name_of(loss))
        return
    log.warning(
        "the logged loss depends on the batch size: %s is no mean over the %s",
        *(name_of(loss), "known labels" if loss.multilabel else "images"),
    )
