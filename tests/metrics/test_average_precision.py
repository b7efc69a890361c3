"""Average precision per class and its mean, against scikit-learn and by hand."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from fovea.metrics.average_precision import AveragePrecision, MeanAveragePrecision

K = 5


def split(seed: int) -> tuple[Tensor, Tensor]:
    """Make probabilities with many ties and targets with unknowns; class 2 has no positive, class 3 no known label."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.randint(0, 21, (60, K), generator=generator) / 20
    target = torch.randint(-1, 2, (60, K), generator=generator)
    target[:, 2] = target[:, 2].clamp(max=0)
    target[:, 3] = -1
    target[7] = -1
    return probabilities, target


def sklearns(probabilities: Tensor, target: Tensor) -> list[float]:
    """Return a value per class, nan without a known positive."""
    values = []
    for p, t in zip(probabilities.T.numpy(), target.T.numpy(), strict=True):
        values.append(average_precision_score(t[t >= 0], p[t >= 0]) if (t == 1).any() else float("nan"))
    return values


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(3))
def test_each_class_equals_scikit_learn_over_its_known_entries(seed: int) -> None:
    probabilities, target = split(seed)
    metric, mean = AveragePrecision(K), MeanAveragePrecision(K)
    for rows in torch.arange(60).split(16):
        metric.update(probabilities[rows], target[rows])
        mean.update(probabilities[rows], target[rows])
    expected = sklearns(probabilities, target)
    np.testing.assert_allclose(metric.compute(), expected, rtol=1e-6)
    assert mean.compute().item() == pytest.approx(np.nanmean(expected), rel=1e-6)


def test_a_hand_counted_example() -> None:
    probabilities = torch.tensor([[0.9, 0.5], [0.8, 0.5], [0.7, 0.5], [0.6, 0.5]])
    metric = AveragePrecision(2)
    metric.update(probabilities, torch.tensor([[1, 0], [0, 0], [-1, 1], [1, 0]]))
    assert metric.compute().tolist() == pytest.approx(
        [(1 / 1 + 2 / 3) / 2, 1 / 4]
    )  # the second class has four equal scores


def test_two_classes_and_a_single_image() -> None:
    mean = MeanAveragePrecision(2)
    mean.update(torch.tensor([[0.2, 0.9]]), torch.tensor([[1, 0]]))
    assert mean.compute().item() == 1.0


@pytest.mark.parametrize("rows", [0, 3])
def test_the_mean_is_nan_if_nothing_is_known(rows: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric, mean = AveragePrecision(K), MeanAveragePrecision(K)
        for each in (metric, mean):
            each.update(torch.rand(rows, K), torch.full((rows, K), -1))
        assert metric.compute().isnan().all()
        assert mean.compute().isnan()


def test_scores_outside_0_to_1_are_ranked_unchanged() -> None:
    scores, target = torch.tensor([[0.3], [0.9], [1.5]]), torch.tensor([[0], [0], [1]])
    metric = AveragePrecision(1)
    metric.update(scores[:2], target[:2])
    metric.update(scores[2:], target[2:])
    assert metric.compute().item() == 1.0
