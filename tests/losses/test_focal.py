"""Focal losses, compared with torchvision's on sigmoids, a plain loop on a softmax, and torch's where gamma is 0."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import ops

from fovea.losses.focal import FocalLoss, SigmoidFocalLoss, sigmoid_focal_loss, softmax_focal_loss
from fovea.training.batch_loss import BatchLoss

B, K = 6, 4
LOGITS = 3 * torch.randn(B, K, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
SHARES = torch.rand(B, K, generator=torch.Generator().manual_seed(1)).softmax(1)
TARGET = (SHARES > 0.25).float()
WEIGHT = torch.tensor([1.0, 4.0, 0.5, 2.0])


def softmax_loop(shares: Tensor, gamma: float) -> float:
    total = 0.0
    for row, of_row in zip(LOGITS.tolist(), shares.tolist(), strict=True):
        norm = sum(math.exp(logit) for logit in row)
        for logit, share in zip(row, of_row, strict=True):
            p = math.exp(logit) / norm
            total -= share * (1 - p) ** gamma * math.log(p)
    return total / len(shares)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_the_softmax_loss_is_that_of_a_plain_loop_for_indices_and_mixed_labels(gamma: float) -> None:
    for target, shares in ((LABELS, torch.eye(K)[LABELS]), (SHARES, SHARES)):
        assert softmax_focal_loss(LOGITS, target, gamma).item() == pytest.approx(softmax_loop(shares, gamma), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("target", [LABELS, SHARES], ids=["indices", "mixed"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_without_focus_it_is_torchs_cross_entropy(
    smoothing: float, weight: Any, target: Tensor, reduction: str
) -> None:
    expected = nn.CrossEntropyLoss(weight, label_smoothing=smoothing, reduction=reduction)(LOGITS, target)
    torch.testing.assert_close(softmax_focal_loss(LOGITS, target, 0, weight, smoothing, reduction), expected)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 2.0, 3.0])
def test_the_sigmoid_loss_is_torchvisions_for_labels_and_mixtures(alpha: float | None, gamma: float) -> None:
    for target in (TARGET, SHARES):
        expected = ops.sigmoid_focal_loss(LOGITS, target, -1 if alpha is None else alpha, gamma, "mean")
        torch.testing.assert_close(sigmoid_focal_loss(LOGITS, target, gamma, alpha), expected)
    torch.testing.assert_close(
        sigmoid_focal_loss(LOGITS, LABELS, gamma, alpha, sum_classes=True),
        ops.sigmoid_focal_loss(LOGITS, torch.eye(K)[LABELS], -1 if alpha is None else alpha, gamma, "none")
        .sum(1)
        .mean(),
    )


def test_unknown_labels_count_neither_in_the_loss_nor_in_the_gradient() -> None:
    unknown = torch.eye(B, K).bool()
    logits = LOGITS.clone().requires_grad_()
    loss = SigmoidFocalLoss(2.0, 0.25, class_weights=WEIGHT.tolist())(logits, TARGET.masked_fill(unknown, -1))
    loss.backward()
    each = WEIGHT * ops.sigmoid_focal_loss(LOGITS, TARGET, 0.25, 2.0)
    torch.testing.assert_close(loss, each[~unknown].mean())
    assert logits.grad is not None
    assert not logits.grad[unknown].any()
    assert logits.grad[~unknown].all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_certain_prediction_has_a_finite_gradient(gamma: float) -> None:
    for loss, target in ((softmax_focal_loss, LABELS), (sigmoid_focal_loss, TARGET)):
        logits = (200 * (F.one_hot(LABELS, K) if target is LABELS else TARGET) - 100).float().requires_grad_()
        loss(logits, target, gamma).backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_a_batch_with_class_weights_counts_by_the_weights_of_its_labels_as_cross_entropy_does() -> None:
    measured = BatchLoss(FocalLoss(2.0, class_weights=WEIGHT.tolist()), "multiclass")(LOGITS, LABELS)
    assert measured.weight.item() == WEIGHT[LABELS].sum()
    each = WEIGHT[LABELS] * softmax_focal_loss(LOGITS, LABELS, 2.0, reduction="none")
    torch.testing.assert_close(measured.mean, each.sum() / WEIGHT[LABELS].sum())


def test_strengths_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.gamma=-1"):
        FocalLoss(-1)
    with pytest.raises(ValueError, match=r"loss\.alpha=1\.5"):
        SigmoidFocalLoss(alpha=1.5)
