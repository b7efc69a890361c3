"""Poly-1, compared with timm's and with torch's cross-entropy where epsilon is 0."""

from typing import Any

import pytest
import timm.loss
import torch
from torch import nn

from fovea.losses.poly1 import Poly1Loss, poly1_loss
from fovea.training.batch_loss import BatchLoss

LOGITS = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
SHARES = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)).softmax(1)
WEIGHT = torch.tensor([1.0, 4.0, 0.5, 2.0])


@pytest.mark.parametrize("epsilon", [-1.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_indices_and_mixed_labels_have_timms_loss(epsilon: float, smoothing: float) -> None:
    ours, timms = Poly1Loss(epsilon, label_smoothing=smoothing), timm.loss.PolyCrossEntropy(epsilon, smoothing)
    torch.testing.assert_close(ours(LOGITS, LABELS), timms(LOGITS, LABELS))
    smoothed = SHARES * (1 - smoothing) + smoothing / 4  # timm expects its own Mixup to have done this
    torch.testing.assert_close(ours(LOGITS, SHARES), timms(LOGITS, smoothed))


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_without_epsilon_it_is_torchs_cross_entropy(weight: Any) -> None:
    for target in (LABELS, SHARES):
        expected = nn.CrossEntropyLoss(weight, label_smoothing=0.1)(LOGITS, target)
        torch.testing.assert_close(poly1_loss(LOGITS, target, 0, weight, 0.1), expected)


def test_a_batch_with_class_weights_counts_by_the_weights_of_its_labels_as_cross_entropy_does() -> None:
    measured = BatchLoss(Poly1Loss(class_weights=WEIGHT.tolist()), "multiclass")(LOGITS, LABELS)
    each = WEIGHT[LABELS] * timm.loss.PolyCrossEntropy(reduction="none")(LOGITS, LABELS)
    torch.testing.assert_close(measured.mean, each.sum() / WEIGHT[LABELS].sum())


def test_an_epsilon_that_would_reward_wrong_predictions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.epsilon=-2"):
        Poly1Loss(-2)
