"""What an objective returns is measured as the loss of the config is."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fovea.losses.bce import BinaryCrossEntropy
from fovea.objectives.supervised import supervised
from fovea.training.batch_loss import BatchLoss, Loss, MeasuredObjective, Objective

N, K = 7, 3
WEIGHT = torch.tensor([1.0, 4.0, 0.5])
IMAGES = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 2, 1, 0, 0])
PRESENT = torch.tensor([[1.0, 0, -1], [0, 1, 1], [-1, -1, -1], [1, 0, 0], [0, 0, -1], [1, 1, 1], [0, 1, 0]])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, K)


def twice(loss: Loss) -> Objective:
    """An objective of its own: the loss and the square of the logits, both as means."""

    def step(network: nn.Module, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(images)
        return loss(logits, target) + logits.square().mean(), logits

    return step


def sum_of_entries(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")


@pytest.mark.parametrize(
    ("task", "loss", "target"),
    [
        ("multiclass", nn.CrossEntropyLoss(), LABELS),
        ("multiclass", nn.CrossEntropyLoss(WEIGHT), LABELS),
        ("multiclass", nn.CrossEntropyLoss(reduction="sum"), LABELS),
        ("multilabel", BinaryCrossEntropy(), PRESENT),
        ("multilabel", nn.BCEWithLogitsLoss(reduction="sum"), PRESENT),
    ],
)
def test_the_supervised_objective_is_measured_exactly_as_the_loss(task: Any, loss: nn.Module, target: Tensor) -> None:
    plain = BatchLoss(loss, task)
    measured, logits = MeasuredObjective(lambda loss: functools.partial(supervised, loss=loss), plain)(
        network(), IMAGES, target
    )
    assert torch.equal(logits, network()(IMAGES))
    assert all(map(torch.equal, measured, plain(logits, target)))


def test_a_returned_mean_has_the_weight_of_the_batch() -> None:
    plain = BatchLoss(nn.CrossEntropyLoss(WEIGHT), "multiclass")
    measured, logits = MeasuredObjective(twice, plain)(network(), IMAGES, LABELS)
    torch.testing.assert_close(measured.mean, plain(logits, LABELS).mean + logits.square().mean())
    assert measured.value is measured.mean
    assert measured.weight == WEIGHT[LABELS].sum()


@pytest.mark.parametrize("target", [PRESENT, -torch.ones(N, K)])
def test_where_the_loss_is_a_sum_the_whole_objective_is_one(target: Tensor) -> None:
    plain = BatchLoss(nn.BCEWithLogitsLoss(reduction="sum"), "multilabel")
    measured, logits = MeasuredObjective(twice, plain)(network(), IMAGES, target)
    known = target != -1
    total = sum_of_entries(logits[known], target[known]) + max(known.sum().item(), 1) * logits.square().mean()
    torch.testing.assert_close(measured.value, total)
    torch.testing.assert_close(measured.mean, total / max(known.sum().item(), 1))


def test_an_objective_without_the_loss_weighs_a_batch_by_its_images() -> None:
    plain = BatchLoss(nn.CrossEntropyLoss(reduction="sum"), "multiclass")

    def spread(network: nn.Module, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(images)
        return logits.var(), logits

    measured, logits = MeasuredObjective(lambda loss: spread, plain)(network(), IMAGES, LABELS)
    assert (measured.value, measured.mean, measured.weight) == (logits.var(), logits.var(), N)


@pytest.mark.parametrize(("loss_of", "logits_of"), [(lambda x: x, lambda x: x), (Tensor.mean, Tensor.mean)])
def test_a_loss_that_is_not_a_scalar_and_logits_that_are_not_rows_are_refused(loss_of: Any, logits_of: Any) -> None:
    def wrong(network: nn.Module, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(images)
        return loss_of(logits), logits_of(logits)

    objective = MeasuredObjective(lambda loss: wrong, BatchLoss(nn.CrossEntropyLoss(), "multiclass"))
    with pytest.raises(ValueError, match=r"it has to return a scalar and logits \(B, K\)"):
        objective(network(), IMAGES, LABELS)
