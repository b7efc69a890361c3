"""Binary cross-entropy over known labels, compared with a plain loop and torch's own op."""

import math
from typing import Any

import pytest
import timm.loss
import torch
from torch.nn import functional as F

from fovea.losses.bce import BinaryCrossEntropy, binary_cross_entropy


def loop(logits: torch.Tensor, target: torch.Tensor) -> float:
    terms = []
    for logit, t in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        if t != -1:
            p = 1 / (1 + math.exp(-logit))
            terms.append(-(t * math.log(p) + (1 - t) * math.log(1 - p)))
    return sum(terms) / len(terms)


def test_the_loss_is_the_mean_over_the_known_entries() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[1, 0, -1], [-1, -1, -1], [0, 0, 1], [1, -1, 0], [0, 1, 1]]).float()
    assert BinaryCrossEntropy()(logits, target).item() == pytest.approx(loop(logits, target), rel=1e-6)


def test_mixed_targets_between_0_and_1_are_used_unchanged() -> None:
    logits, target = torch.tensor([[0.3, -2.0]]), torch.tensor([[0.25, 0.75]])
    assert binary_cross_entropy(logits, target).item() == pytest.approx(loop(logits, target), rel=1e-6)


def test_only_known_entries_have_a_gradient() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    target = torch.tensor([[1, 0, -1], [-1, 1, 0], [0, 0, 1], [1, -1, 0]]).float()
    binary_cross_entropy(logits, target).backward()
    expected = torch.where(target == -1, 0.0, (logits.detach().sigmoid() - target) / 9)
    torch.testing.assert_close(logits.grad, expected)


def test_a_batch_with_nothing_known_gives_zero_and_a_zero_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = binary_cross_entropy(logits, torch.full((2, 3), -1.0))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0] * 3] * 2


def test_class_indices_count_as_one_hot_rows() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    torch.testing.assert_close(
        binary_cross_entropy(logits, labels),
        F.binary_cross_entropy_with_logits(logits, torch.eye(4)[labels]),
    )


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = torch.ones(1000, 100, dtype=torch.float16)
    loss = binary_cross_entropy(logits, torch.zeros(1000, 100))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(1 + math.e), rel=1e-5)  # float16 cannot hold the sum


MIXED = torch.tensor([[0.7, 0.3, 0, 0], [0, 0, 1, 0], [0.15, 0, 0, 0.85]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("sums", [False, True])
def test_single_labels_and_their_mixtures_have_timms_loss(smoothing: float, threshold: Any, sums: bool) -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    ours = BinaryCrossEntropy(
        label_smoothing=smoothing, target_threshold=threshold, sum_classes=sums, task="multiclass"
    )
    timms = timm.loss.BinaryCrossEntropy(smoothing, threshold, sum_classes=sums)
    smoothed = MIXED * (1 - smoothing) + smoothing / 4  # timm expects its own Mixup to have done this
    torch.testing.assert_close(ours(logits, torch.tensor([1, 0, 3])), timms(logits, torch.tensor([1, 0, 3])))
    torch.testing.assert_close(ours(logits, MIXED), timms(logits, smoothed))


def test_several_labels_are_smoothed_towards_a_half_and_unknown_ones_still_do_not_count() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(3))
    target = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]]).float()
    timms = timm.loss.BinaryCrossEntropy(0.2, smooth_dense=True, reduction="none")(logits, target)
    loss = BinaryCrossEntropy(label_smoothing=0.2, task="multilabel")
    torch.testing.assert_close(loss(logits, target), timms.mean())
    unknown = torch.eye(3, 4).bool()
    torch.testing.assert_close(loss(logits, target.masked_fill(unknown, -1)), timms[~unknown].mean())


def test_shares_outside_0_to_1_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.label_smoothing=-0\.1"):
        BinaryCrossEntropy(label_smoothing=-0.1)
    with pytest.raises(ValueError, match=r"loss\.target_threshold=2"):
        BinaryCrossEntropy(target_threshold=2)
    names = list("abcdefghij")
    for smoothing, threshold in ((0.0, 1.0), (0.1, 0.95), (0.1, 0.0)):
        with pytest.raises(ValueError, match=r"label of an absent class, and less than"):
            BinaryCrossEntropy(None, None, smoothing, threshold, task="multiclass", class_names=names)
    BinaryCrossEntropy(None, None, 0.1, 0.2, task="multiclass", class_names=names)
