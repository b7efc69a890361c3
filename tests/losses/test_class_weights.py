"""Class weights in the losses, against scikit-learn's formula and torch's own losses."""

from typing import Any

import numpy as np
import pytest
import timm.loss
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from fovea.data.index import class_counts
from fovea.losses.asymmetric import AsymmetricLoss
from fovea.losses.bce import BinaryCrossEntropy
from fovea.losses.cross_entropy import CrossEntropy
from fovea.losses.focal import SigmoidFocalLoss

NAMES = ["cat", "dog", "7"]
LABELS = torch.tensor([0] * 8 + [1] * 3 + [2])
TARGET = torch.tensor([[1, 0, -1], [1, 1, -1], [0, 1, 1], [1, -1, 0], [0, 0, 0]], dtype=torch.int8)


def cross_entropy(weights: Any, labels: torch.Tensor = LABELS, **more: Any) -> CrossEntropy:
    return CrossEntropy(weights, class_names=NAMES, class_counts=class_counts(labels, 3), **more)  # type: ignore[arg-type]


def bce(**options: Any) -> BinaryCrossEntropy:
    return BinaryCrossEntropy(class_names=NAMES, class_counts=class_counts(TARGET, 3), **options)  # type: ignore[arg-type]


def test_balanced_weights_are_scikit_learns() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    np.testing.assert_allclose(cross_entropy("balanced").weight, expected, rtol=1e-6)


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.9999])
def test_weights_by_the_effective_number_of_images_are_timms(beta: float) -> None:
    _, expected = timm.loss.compute_class_weights([8, 3, 1], 12, "effective_num", beta=beta)
    np.testing.assert_allclose(cross_entropy(f"effective:{beta}").weight, expected, rtol=1e-6)


def test_the_beta_of_effective_weights_has_a_default_and_a_range_and_0_makes_weights_equal() -> None:
    assert torch.equal(cross_entropy("effective").weight, cross_entropy("effective:0.9999").weight)
    assert cross_entropy("effective:0").weight.tolist() == [1, 1, 1]
    for wrong in ("1", "-0.1", "high", "nan"):
        with pytest.raises(ValueError, match=f"beta={wrong} is not a number from 0 to less than 1"):
            cross_entropy(f"effective:{wrong}")
    with pytest.raises(ValueError, match=r"loss\.pos_weight=effective: give balanced, a list"):
        bce(pos_weight="effective")


def test_balanced_positive_weights_are_known_negatives_by_known_positives() -> None:
    np.testing.assert_allclose(bce(pos_weight="balanced").pos_weight, [2 / 3, 2 / 2, 2 / 1])


def test_weights_of_several_labels_are_computed_from_the_known_present_labels() -> None:
    counts = class_counts(TARGET, 3)
    assert counts["present"] == [3, 2, 1]
    _, effective = timm.loss.compute_class_weights([3, 2, 1], 6, "effective_num", beta=0.9)
    options: dict[str, Any] = {"class_names": NAMES, "class_counts": counts}
    for loss in (BinaryCrossEntropy, AsymmetricLoss, SigmoidFocalLoss):
        np.testing.assert_allclose(loss(class_weights="balanced", **options).weight, [6 / 9, 6 / 6, 6 / 3], rtol=1e-6)
        np.testing.assert_allclose(loss(class_weights="effective:0.9", **options).weight, effective, rtol=1e-6)


@pytest.mark.parametrize("weights", [[1, 4, 0.5], {"dog": 4, 7: 0.5}, {"7": 0.5, "dog": 4.0, "cat": 1}])
def test_weights_come_from_a_list_or_by_name_and_others_are_1(weights: Any) -> None:
    weight, logits = torch.tensor([1, 4, 0.5]), torch.randn(12, 3)
    torch.testing.assert_close(cross_entropy(weights)(logits, LABELS), F.cross_entropy(logits, LABELS, weight))
    known, target = TARGET != -1, TARGET.clamp(min=0).float()
    for key, torchs in (("pos_weight", "pos_weight"), ("class_weights", "weight")):
        options: dict[str, Any] = {torchs: weight}
        each = F.binary_cross_entropy_with_logits(logits[:5], target, reduction="none", **options)
        torch.testing.assert_close(bce(**{key: weights})(logits[:5], TARGET.float()), each[known].mean())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "has 2 weights but the data has 3 classes"),
        ({"dgo": 2}, "the data has no class 'dgo': did you mean dog"),
        ({"xyz": 2}, "the classes are cat, dog, 7"),
        ([1, -2, 1], "-2 is no weight"),
        ([1, float("nan"), 1], "nan is no weight"),
        ([1, "two", 1], "two is no weight"),
        ([0, 0, 0], "all weights are 0"),
        ("equal", "give balanced, .*a list"),
        (3, "give balanced, .*a list"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        cross_entropy(weights)
    assert "loss.class_weights" in str(caught.value)
    with pytest.raises(ValueError, match=message.replace(", .*", ", ")):
        bce(pos_weight=weights)


def test_a_class_without_images_weighs_1_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert cross_entropy("balanced", LABELS[:11]).weight.tolist() == pytest.approx([11 / 24, 11 / 9, 1.0])
    assert "weight 1 for 1 classes without a training image: 7" in caplog.text


def test_the_weights_are_logged_by_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cross_entropy({"dog": 4})
    assert "loss.class_weights: cat 1, dog 4, 7 1" in caplog.text


def test_weight_works_like_class_weights_and_giving_both_is_refused() -> None:
    assert cross_entropy(None, weight=[1, 4, 1]).weight.tolist() == [1, 4, 1]
    with pytest.raises(ValueError, match="give one of them"):
        cross_entropy([1, 2, 3], weight=[1, 4, 1])


def test_weights_are_not_in_checkpoints_and_move_with_the_loss() -> None:
    for loss in (cross_entropy("balanced"), bce(pos_weight="balanced", class_weights="balanced")):
        assert not loss.state_dict()
        assert {str(buffer.device) for buffer in loss.to("meta").buffers()} == {"meta"}
