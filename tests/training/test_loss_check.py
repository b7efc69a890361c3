"""Unsuitable losses are refused or warned about before training, tested with losses of torch, torchvision and timm."""

import functools
from typing import Any

import pytest
import timm.loss
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss
from torchvision.transforms.v2 import CutMix, Identity, MixUp

from fovea.losses.bce import BinaryCrossEntropy
from fovea.losses.focal import FocalLoss
from fovea.losses.ldam import LDAM
from fovea.training.batch_loss import BatchLoss
from fovea.training.loss_check import check_loss, check_mixed

K = 4


def unmasked(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target)


def masked(logits: Tensor, target: Tensor) -> Tensor:
    known = target != -1
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known).sum() / known.sum()


def per_image_sum(logits: Tensor, target: Tensor) -> Tensor:
    """Sum over the known labels of each image, then average over images."""
    known = target != -1
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known).sum(1).mean()


@pytest.mark.parametrize("unknown", ["nothing", "images", "labels"])
@pytest.mark.parametrize(
    "loss",
    [
        BinaryCrossEntropy(),
        nn.BCEWithLogitsLoss(),
        nn.BCEWithLogitsLoss(reduction="sum"),
        nn.MSELoss(),
        functools.partial(sigmoid_focal_loss, alpha=-1),
        functools.partial(sigmoid_focal_loss, reduction="mean"),
        timm.loss.BinaryCrossEntropy(),
    ],
)
def test_elementwise_losses_accept_unknown_labels(loss: Any, unknown: Any, caplog: pytest.LogCaptureFixture) -> None:
    check_loss(BatchLoss(loss, "multilabel"), K, unknown)
    assert not caplog.records


@pytest.mark.parametrize(
    ("loss", "unknown", "message"),
    [
        (unmasked, "labels", "unmasked counts unknown labels"),
        (unmasked, "images", "unmasked counts unknown labels"),
        (masked, "images", "masked is no finite number if all labels of a batch are unknown"),
        (timm.loss.AsymmetricLossMultiLabel(), "labels", "counts unknown labels"),
        (nn.MultiLabelSoftMarginLoss(), "labels", "counts unknown labels"),
        (nn.SoftMarginLoss(), "nothing", "here absent is 0 and -1 unknown"),
        (nn.HingeEmbeddingLoss(), "nothing", "here absent is 0 and -1 unknown"),
        (nn.BCELoss(), "nothing", "can't be applied to logits"),
        (nn.BCEWithLogitsLoss(torch.ones(2)), "nothing", "can't be applied to logits"),
    ],
)
def test_an_unsuitable_loss_is_refused(loss: Any, unknown: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_loss(BatchLoss(loss, "multilabel"), K, unknown)


@pytest.mark.parametrize("loss", [unmasked, nn.MultiLabelSoftMarginLoss(), timm.loss.AsymmetricLossMultiLabel()])
def test_losses_that_count_unknown_labels_are_accepted_if_all_labels_are_known(loss: Any) -> None:
    check_loss(BatchLoss(loss, "multilabel"), K, "nothing")


@pytest.mark.parametrize("classes", [1, 2, 7, 30])
def test_the_losses_of_conf_work_with_any_number_of_classes(classes: int, caplog: pytest.LogCaptureFixture) -> None:
    check_loss(BatchLoss(nn.CrossEntropyLoss(), "multiclass"), classes + 1, "nothing")
    check_loss(BatchLoss(BinaryCrossEntropy(), "multiclass"), classes + 1, "nothing")
    check_loss(BatchLoss(BinaryCrossEntropy(), "multilabel"), classes, "images" if classes == 1 else "labels")
    assert not caplog.records


def test_a_custom_loss_that_is_a_sum_is_logged_as_a_mean() -> None:
    loss = BatchLoss(lambda logits, target: ((logits - target) ** 2).sum(), "multilabel")
    check_loss(loss, K, "nothing")
    logits, target = torch.randn(6, K), torch.ones(6, K)
    value, mean, weight = loss(logits, target)
    assert (mean * weight).item() == pytest.approx(value.item())


def test_a_loss_whose_epoch_depends_on_the_batch_size_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    check_loss(BatchLoss(per_image_sum, "multilabel"), K, "labels")
    assert "depends on the batch size: per_image_sum is not the mean over the known labels" in caplog.text


def test_a_loss_that_expects_log_probabilities_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    check_loss(BatchLoss(nn.NLLLoss(), "multiclass"), K, "nothing")
    assert "log-probabilities" in caplog.text


def test_the_check_does_not_change_the_random_state() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check_loss(BatchLoss(nn.CrossEntropyLoss(), "multiclass"), K, "nothing")
    assert torch.rand(1) == expected


@pytest.mark.parametrize("mix", [MixUp(num_classes=K), CutMix(num_classes=K)], ids=lambda mix: type(mix).__name__)
def test_a_loss_on_class_indices_is_refused_if_labels_are_mixed(mix: Any) -> None:
    counts = {"present": [4, 3, 2, 1], "absent": [6, 7, 8, 9]}
    for loss in (nn.MultiMarginLoss(), LDAM(scale=30, class_counts=counts)):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"can't be applied to .*mixing=(.|\n)*use mixing=none"):
            check_mixed(BatchLoss(loss, "multiclass"), mix, K, 8)
        check_mixed(BatchLoss(loss, "multiclass"), Identity(), K, 8)
    for other in (nn.CrossEntropyLoss(), BinaryCrossEntropy(), FocalLoss()):
        check_mixed(BatchLoss(other, "multiclass"), mix, K, 8)


def test_trying_a_mixture_leaves_the_random_numbers_as_they_were() -> None:
    before = torch.get_rng_state()
    check_mixed(BatchLoss(nn.CrossEntropyLoss(), "multiclass"), MixUp(num_classes=K), K, 8)
    assert torch.equal(torch.get_rng_state(), before)
