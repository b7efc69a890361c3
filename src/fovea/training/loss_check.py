"""Tests a loss on a synthetic batch before training, to find faults that would cause no error."""

import copy
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fovea.data.index import Unknown
from fovea.training.batch_loss import BatchLoss
from fovea.training.meter import MeanLoss

log = logging.getLogger(__name__)
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
IMAGES, FIRST = 12, 3  # in the batch, and in the first of two parts


def check_loss(loss: BatchLoss, num_classes: int, unknown: Unknown) -> None:
    """Detect whether a scalar loss is a sum over the batch, and warn if an epoch's loss depends on the batch size.

    Args:
        unknown: which labels of the data are unknown.

    Raises:
        ValueError: the loss doesn't accept the data's targets, counts unknown labels (-1), or expects other numbers
            than 1 for present and 0 for absent.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # a loss may use random numbers
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
            _check_sum(loss, trial, logits, target)


def check_mixed(loss: BatchLoss, mix: Mix, num_classes: int, image_size: int) -> None:
    """Check that a loss on one label an image accepts what `mix` makes of class indices.

    Args:
        loss: the loss.
        mix: (images (B, 3, S, S) float, target (B,) int64) -> (images, target), (B, K) float if labels are mixed.
        num_classes: K.
        image_size: S.

    Raises:
        ValueError: the labels are mixed, and the loss can't be applied to mixed labels.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        _, target = mix(torch.zeros(IMAGES, 3, image_size, image_size), _target(False, num_classes))
        if target.ndim == 2:
            _gradient(copy.deepcopy(loss), torch.randn(IMAGES, num_classes), target)


def name_of(loss: BatchLoss) -> str:
    """Return the name of the loss's class or function."""
    inner: Any = loss.loss
    while hasattr(inner, "func"):
        inner = inner.func
    return inner.__name__ if hasattr(inner, "__name__") else type(inner).__name__


def _target(multilabel: bool, num_classes: int) -> Tensor:
    """Return (B,) int64 or (B, K) float, with each class present in some images and absent in others."""
    if not multilabel:
        return torch.arange(IMAGES) % num_classes
    sums = torch.arange(IMAGES)[:, None] + torch.arange(num_classes)  # (B, K)
    return (sums % 2).float()


def _with_unknown(target: Tensor, unknown: Unknown) -> Tensor:
    """Return the target with two whole rows and, for unknown="labels", some single labels set to -1."""
    target = target.clone()
    target[[0, FIRST]] = -1
    if unknown == "labels" and target.shape[1] > 1:
        target[1::2, 0] = -1
    return target


def _gradient(loss: BatchLoss, logits: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of the loss with respect to the logits, (B, K).

    Raises:
        ValueError: the loss can't be applied to such logits and targets, or its result has the wrong shape.
    """
    logits = logits.clone().requires_grad_()
    try:
        value = loss(logits, target).value
        (gradient,) = torch.autograd.grad(value, logits)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError) as error:
        kind, remedy = _targets_and_remedy(loss.multilabel, mixed=not loss.multilabel and target.ndim == 2)
        raise ValueError(
            f"loss: {name_of(loss)} can't be applied to logits (B, K) and {kind}:\n"
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}\n"
            f"(here B = {IMAGES}, K = {logits.shape[1]}); use {remedy}"
        ) from error
    return gradient


def _targets_and_remedy(multilabel: bool, mixed: bool) -> tuple[str, str]:
    if mixed:
        return "the labels that mixing= makes, (B, K) float", "mixing=none, or loss=cross_entropy"
    if multilabel:
        return "this data's targets, (B, K) float, 0 or 1", "loss=bce"
    return "this data's targets, (B,) int64", "loss=cross_entropy"


def _check_direction(loss: BatchLoss, gradient: Tensor, target: Tensor) -> None:
    """Check that the loss falls with some logits of present classes and rises with some of absent ones."""
    present = target == 1 if loss.multilabel else F.one_hot(target, gradient.shape[1]).bool()
    if (gradient[present] < 0).any() and ((gradient[~present] > 0).any() or present.all()):
        return
    fault = f"loss: {name_of(loss)} doesn't raise the logits of present classes and lower those of absent ones"
    if loss.multilabel:
        raise ValueError(f"{fault}.\nSome losses expect -1 for absent; here absent is 0 and -1 unknown. Use loss=bce")
    log.warning("%s: it may expect log-probabilities, which loss=cross_entropy computes itself", fault)


def _check_unknown(loss: BatchLoss, logits: Tensor, target: Tensor) -> None:
    remedy = "Return unreduced values (B, K), which fovea masks and averages, or use loss=bce"
    gradient = _gradient(loss, logits, target)
    if gradient[target == -1].any() or not gradient.isfinite().all():
        raise ValueError(
            f"loss: {name_of(loss)} counts unknown labels (-1), which this data has; it must ignore them.\n{remedy}"
        )
    nothing = torch.full_like(target, -1)
    if not loss(logits, nothing).value.isfinite() or not _gradient(loss, logits, nothing).isfinite().all():
        raise ValueError(
            f"loss: {name_of(loss)} is no finite number if all labels of a batch are unknown (-1).\n{remedy}"
        )


def _is_mean(loss: BatchLoss, logits: Tensor, target: Tensor) -> bool:
    """Return True if the weighted mean over two batches equals the mean over one batch with the same images."""
    epoch = MeanLoss()
    for part in (slice(FIRST), slice(FIRST, None)):
        epoch.update(*loss(logits[part], target[part])[1:])
    return torch.allclose(epoch.compute(), loss(logits, target).mean.float(), rtol=1e-4, atol=1e-6)


def _check_sum(loss: BatchLoss, trial: BatchLoss, logits: Tensor, target: Tensor) -> None:
    """Treat the loss as a sum over the batch if that fits, else warn."""
    trial.reduction = "sum"
    if _is_mean(trial, logits, target):
        loss.reduction = "sum"
        log.info("the loss %s is a sum over the batch: its mean is logged", name_of(loss))
        return
    log.warning(
        "the logged loss depends on the batch size: %s is not the mean over the %s",
        *(name_of(loss), "known labels" if loss.multilabel else "images"),
    )
