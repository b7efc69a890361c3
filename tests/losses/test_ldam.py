"""LDAM, compared with a plain loop over the images as in the authors' code, and with cross-entropy without margins."""

import math

import pytest
import torch
from torch.nn import functional as F

from fovea.losses.ldam import LDAM, ldam_margins
from fovea.training.batch_loss import BatchLoss

PRESENT = [5000, 300, 16, 1]
COUNTS = {"present": PRESENT, "absent": [317, 5017, 5301, 5316]}
LOGITS = 10 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])


def loss(margin: float = 0.5, scale: float = 30.0, **options: object) -> LDAM:
    return LDAM(margin, scale, class_counts=COUNTS, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("margin", [0.2, 0.5])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_loss_is_that_of_a_plain_loop(margin: float, scale: float) -> None:
    total, largest = 0.0, max(1 / math.sqrt(math.sqrt(n)) for n in PRESENT)
    for logits, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        cosines = [logit / scale for logit in logits]
        cosines[label] -= margin / largest / math.sqrt(math.sqrt(PRESENT[label]))
        total += math.log(sum(math.exp(scale * c) for c in cosines)) - scale * cosines[label]
    assert loss(margin, scale)(LOGITS, LABELS).item() == pytest.approx(total / 6, rel=1e-5)


def test_without_margins_it_is_cross_entropy_with_class_weights_too() -> None:
    weight = [1.0, 4.0, 0.5, 2.0]
    measured = BatchLoss(loss(0, class_weights=weight), "multiclass")(LOGITS, LABELS)
    torch.testing.assert_close(measured.value, F.cross_entropy(LOGITS, LABELS, torch.tensor(weight)))


def test_a_class_of_a_sixteenth_of_the_images_has_twice_the_margin() -> None:
    torch.testing.assert_close(ldam_margins([16, 1, 0], 0.5), torch.tensor([0.25, 0.5, 0.5]))


def test_mixed_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="labels can't be mixed"):
        loss()(LOGITS, torch.full((6, 4), 0.25))


def test_numbers_outside_their_range_and_a_classifier_without_cosines_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.margin=-1"):
        loss(-1)
    with pytest.raises(ValueError, match="type cosine_scale=30"):
        LDAM(class_counts=COUNTS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LDAM needs the counts of the training labels"):
        LDAM(scale=30)
