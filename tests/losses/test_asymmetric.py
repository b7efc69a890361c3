"""The asymmetric loss, compared with timm's; unknown labels count nowhere."""

import pytest
import timm.loss
import torch
from torch.nn import functional as F

from fovea.losses.asymmetric import AsymmetricLoss, asymmetric_loss

B, K = 6, 4
LOGITS = 3 * torch.randn(B, K, generator=torch.Generator().manual_seed(0))
SHARES = torch.rand(B, K, generator=torch.Generator().manual_seed(1))
TARGET = SHARES.round()
WEIGHT = torch.tensor([1.0, 4.0, 0.5, 2.0])


@pytest.mark.parametrize("gammas", [(4.0, 1.0), (4.0, 0.0), (2.0, 2.0), (0.0, 0.0)])
@pytest.mark.parametrize("clip", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("detached", [False, True])
def test_loss_and_gradient_are_timms(gammas: tuple[float, float], clip: float, detached: bool) -> None:
    ours = AsymmetricLoss(*gammas, clip, detach_focus=detached)
    timms = timm.loss.AsymmetricLossMultiLabel(
        *gammas, clip, disable_torch_grad_focal_loss=detached, reduction="mean", eps=0
    )
    for target in (TARGET, SHARES):
        values, gradients = list[torch.Tensor](), list[torch.Tensor]()
        for loss in (ours, timms):
            logits = LOGITS.clone().requires_grad_()
            values.append(loss(logits, target))
            gradients += torch.autograd.grad(values[-1], logits)
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*gradients)


def test_weights_and_the_sum_over_classes_are_timms_and_indices_are_one_hot_rows() -> None:
    timms = timm.loss.AsymmetricLossMultiLabel(weight=WEIGHT)  # its batchmean is the sum over classes
    ours = AsymmetricLoss(class_weights=WEIGHT.tolist(), sum_classes=True)
    labels = torch.tensor([0, 3, 1, 1, 2, 0])
    torch.testing.assert_close(ours(LOGITS, TARGET), timms(LOGITS, TARGET))
    torch.testing.assert_close(ours(LOGITS, labels), timms(LOGITS, torch.eye(K)[labels]))


def test_without_focus_and_clip_it_is_binary_cross_entropy() -> None:
    expected = F.binary_cross_entropy_with_logits(LOGITS, SHARES)
    torch.testing.assert_close(asymmetric_loss(LOGITS, SHARES, 0, 0, 0), expected)


def test_unknown_labels_count_neither_in_the_loss_nor_in_the_gradient() -> None:
    unknown = torch.eye(B, K).bool()
    logits = LOGITS.clone().requires_grad_()
    loss = AsymmetricLoss(clip=0)(logits, TARGET.masked_fill(unknown, -1))
    loss.backward()
    each = timm.loss.AsymmetricLossMultiLabel(clip=0, reduction="none")(LOGITS, TARGET)
    torch.testing.assert_close(loss, each[~unknown].mean())
    assert logits.grad is not None
    assert not logits.grad[unknown].any()
    assert logits.grad[~unknown].all()


def test_very_wrong_and_certain_predictions_have_a_finite_gradient_and_wrong_present_labels_a_strong_one() -> None:
    logits = torch.tensor([[-60.0, 60.0], [60.0, -60.0]], requires_grad=True)
    asymmetric_loss(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), gamma_neg=0.5).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0].item() == pytest.approx(-1 / 4)  # that of log p over four labels


def test_options_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.gamma_neg=-1"):
        AsymmetricLoss(gamma_neg=-1)
    with pytest.raises(ValueError, match=r"loss\.clip=1"):
        AsymmetricLoss(clip=1)
