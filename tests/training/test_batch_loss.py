"""Losses of a batch and of an epoch, compared with torch's own on all targets together and on the known ones only."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.losses.bce import BinaryCrossEntropy
from fovea.training.batch_loss import BatchLoss
from fovea.training.meter import MeanLoss

WEIGHT = torch.tensor([1.0, 4.0, 0.5])
N, K = 11, 3


def each_focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """A custom loss that returns a value per label."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (1 - torch.exp(-bce)) ** gamma * bce


def focal(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    each = each_focal(logits, target)
    return each if reduction == "none" else each.mean() if reduction == "mean" else each.sum()


def logits_and(task: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, K, generator=generator, requires_grad=True)
    if task == "multiclass":
        return logits, torch.randint(0, K, (N,), generator=generator)
    target = torch.randint(-1, 2, (N, K), generator=generator).float()
    target[4] = -1
    return logits, target


SINGLE: dict[str, Callable[[], Any]] = {
    "plain": nn.CrossEntropyLoss,
    "smooth": lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
    "weighted": lambda: nn.CrossEntropyLoss(WEIGHT),
    "weighted and smooth": lambda: nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1),
    "one class ignored": lambda: nn.CrossEntropyLoss(WEIGHT, ignore_index=1),
    "margin": nn.MultiMarginLoss,
    "bce": BinaryCrossEntropy,
}
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "bce": nn.BCEWithLogitsLoss,
    "weighted bce": lambda **options: nn.BCEWithLogitsLoss(WEIGHT, pos_weight=WEIGHT, **options),
    "mse": nn.MSELoss,
    "function": lambda **options: functools.partial(focal, **options),
}


def epoch(loss: BatchLoss, logits: Tensor, target: Tensor, size: int) -> float:
    mean = MeanLoss()
    for part, labels in zip(logits.split(size), target.split(size), strict=True):
        mean.update(*loss(part, labels)[1:])
    return mean.compute().item()


@pytest.mark.parametrize("size", [1, 4, N])
@pytest.mark.parametrize("name", SINGLE)
def test_the_loss_of_an_epoch_equals_torchs_over_all_images_for_any_batch_size(name: str, size: int) -> None:
    logits, labels = logits_and("multiclass")
    expected = SINGLE[name]()(logits, labels).item()
    assert epoch(BatchLoss(SINGLE[name](), "multiclass"), logits, labels, size) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", SINGLE)
def test_the_gradient_equals_torchs(name: str) -> None:
    logits, labels = logits_and("multiclass")
    (expected,) = torch.autograd.grad(SINGLE[name]()(logits, labels), logits)
    (gradient,) = torch.autograd.grad(BatchLoss(SINGLE[name](), "multiclass")(logits, labels).value, logits)
    exact = name in ("plain", "smooth", "margin", "bce")
    torch.testing.assert_close(gradient, expected, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-7)


@pytest.mark.parametrize("size", [1, 4, N])
@pytest.mark.parametrize("name", ["weighted and smooth", "plain"])
def test_mixed_labels_count_by_image(name: str, size: int) -> None:
    logits, _ = logits_and("multiclass")
    mixed = torch.rand(N, K, generator=torch.Generator().manual_seed(1)).softmax(1)
    expected = SINGLE[name]()(logits, mixed).item()
    assert epoch(BatchLoss(SINGLE[name](), "multiclass"), logits, mixed, size) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1, 4, N])
@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_an_elementwise_loss_is_the_mean_over_the_known_labels(name: str, reduction: str, size: int) -> None:
    logits, target = logits_and("multilabel")
    known = target != -1
    each = ELEMENTWISE[name](reduction="none")(logits, target.clamp(min=0))[known]
    loss = BatchLoss(ELEMENTWISE[name](reduction=reduction), "multilabel")
    assert epoch(loss, logits, target, size) == pytest.approx(each.mean().item(), rel=1e-5)
    step = each.sum() if reduction == "sum" else each.mean()
    (expected,), (gradient,) = (torch.autograd.grad(v, logits) for v in (step, loss(logits, target).value))
    torch.testing.assert_close(gradient, expected)


def test_a_function_that_returns_a_value_per_label_is_averaged_over_the_known_ones() -> None:
    logits, target = logits_and("multilabel")
    expected = each_focal(logits, target)[target != -1].mean()
    torch.testing.assert_close(BatchLoss(each_focal, "multilabel")(logits, target).value, expected)


def test_a_loss_per_image_ignores_images_without_a_known_label() -> None:
    logits, target = logits_and("multilabel")
    target = torch.where((target == -1).all(1, keepdim=True), -1, target.clamp(min=0))
    known = (target != -1).all(1)
    expected = nn.MultiLabelSoftMarginLoss()(logits[known], target[known])
    assert known.sum() == N - 1
    torch.testing.assert_close(BatchLoss(nn.MultiLabelSoftMarginLoss(), "multilabel")(logits, target).value, expected)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_batch_with_nothing_known_gives_zero_and_a_zero_gradient(name: str) -> None:
    logits, target = torch.randn(2, K, requires_grad=True), torch.full((2, K), -1.0)
    value, mean, weight = BatchLoss(ELEMENTWISE[name](), "multilabel")(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    assert (value.item(), mean.item(), weight.item(), gradient.abs().sum().item()) == (0, 0, 0, 0)


def test_a_batch_of_classes_with_weight_0_gives_zero_and_not_nan() -> None:
    logits = torch.randn(2, K, requires_grad=True)
    loss = BatchLoss(nn.CrossEntropyLoss(torch.tensor([0.0, 1, 1])), "multiclass")
    value = loss(logits, torch.tensor([0, 0])).value
    (gradient,) = torch.autograd.grad(value, logits)
    assert (value.item(), gradient.abs().sum().item()) == (0, 0)


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_a_sum_is_minimized_as_a_sum_and_logged_as_a_mean(weight: Tensor | None) -> None:
    logits, labels = logits_and("multiclass")
    summed = BatchLoss(nn.CrossEntropyLoss(weight, reduction="sum"), "multiclass")
    torch.testing.assert_close(summed(logits, labels).value, F.cross_entropy(logits, labels, weight, reduction="sum"))
    for size in (1, 4, N):
        expected = F.cross_entropy(logits, labels, weight).item()
        assert epoch(summed, logits, labels, size) == pytest.approx(expected, rel=1e-5)


def test_the_given_loss_is_not_changed() -> None:
    loss = nn.BCEWithLogitsLoss()
    BatchLoss(loss, "multilabel")
    assert loss.reduction == "mean"
