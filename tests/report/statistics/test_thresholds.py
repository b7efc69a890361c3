"""Thresholds of several labels, against trying all of them and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from fovea.report.prediction_file import Predictions
from fovea.report.statistics import thresholds
from fovea.report.statistics.thresholds import at_thresholds, best_threshold, best_thresholds, precision_recall_curve


def f1(scores: Tensor, positive: Tensor, threshold: float) -> float:
    return metrics.f1_score(positive, scores > threshold, zero_division=0)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_higher_f1_and_none_as_good_is_nearer_to_one_half(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 13, (30,), generator=generator) / 12
    positive = torch.rand(30, generator=generator) < scores * 0.7
    found = best_threshold(scores, positive)
    edges = torch.cat([torch.zeros(1), scores]).unique()  # between neighbours, all thresholds predict the same
    middles = [0.5, *((edges[1:] + edges[:-1]) / 2).tolist()]
    best = max(f1(scores, positive, t) for t in middles)
    assert f1(scores, positive, found) == best
    assert abs(found - 0.5) == pytest.approx(min(abs(t - 0.5) for t in middles if f1(scores, positive, t) == best))


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([0.2, 0.4, 0.8, 0.9], [0, 0, 1, 1], 0.5),  # all from 0.4 to 0.8 are perfect
        ([0.6, 0.7, 0.8, 0.9], [0, 0, 1, 1], 0.75),
        ([0.1, 0.2, 0.3, 0.9], [0, 0, 0, 0], 0.5),
        ([0.1, 0.2], [1, 1], 0.05),
        ([0.0, 0.0], [1, 0], 0.5),  # nothing can be predicted
        ([], [], 0.5),
        ([1.0, 1.0], [1, 1], 0.5),
        (
            [0.9, float(np.nextafter(np.float32(0.9), np.float32(1)))],
            [0, 1],
            float(np.float32(0.9)),
        ),  # no number between
    ],
)
def test_known_cases(scores: list[float], positive: list[int], expected: float) -> None:
    assert best_threshold(torch.tensor(scores), torch.tensor(positive).bool()) == pytest.approx(expected)


def multilabel() -> Predictions:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (60, 4), generator=generator).char()
    labels[:, 2] = labels[:, 2].clamp(max=0)
    probabilities = (torch.randn(60, 4, generator=generator) + labels - 1).sigmoid()
    return Predictions("multilabel", list("abcd"), [str(n) for n in range(60)], labels, probabilities)


def test_each_class_has_its_own_threshold_over_its_known_labels() -> None:
    validation = multilabel()
    found = best_thresholds(validation)
    assert found.shape == (4,)
    assert found[2] == 0.5  # has no positive
    before, after = at_thresholds(validation, 0.5), at_thresholds(validation, found)
    assert (after["f1"] >= before["f1"] - 1e-12)[[0, 1, 3]].all()
    assert (after["f1"] > before["f1"]).any()
    for k in (0, 1, 3):
        known = validation.labels[:, k] != -1
        target, predicted = validation.labels[known, k], validation.probabilities[known, k] > found[k]
        assert after["precision"][k] == pytest.approx(metrics.precision_score(target, predicted))
        assert after["recall"][k] == pytest.approx(metrics.recall_score(target, predicted))
        assert after["f1"][k] == pytest.approx(metrics.f1_score(target, predicted))


def test_the_curve_equals_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, target = torch.randint(0, 21, (80,), generator=generator) / 20, torch.randint(-1, 2, (80,))
    precision, recall, threshold = precision_recall_curve(scores, target)
    known = target != -1
    expected = metrics.precision_recall_curve(target[known], scores[known])
    np.testing.assert_allclose(precision.flip(0), expected[0][:-1])  # without scikit-learn's point (0, 1)
    np.testing.assert_allclose(recall.flip(0), expected[1][:-1])
    np.testing.assert_allclose(threshold.flip(0), expected[2])


def test_a_long_curve_is_reduced_to_points_of_it_with_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(5000, generator=generator) < 0.01).long()
    scores = torch.rand(5000, generator=generator) + 0.3 * target
    short = torch.stack(precision_recall_curve(scores, target), 1)
    monkeypatch.setattr(thresholds, "MOST_POINTS", 10_000)
    full = torch.stack(precision_recall_curve(scores, target), 1)
    assert len(full) == 5000
    assert 30 <= len(short) <= 100
    assert {tuple(point) for point in short.tolist()} <= {tuple(point) for point in full.tolist()}
    assert short[0].tolist() == full[0].tolist()
    assert short[-1].tolist() == full[-1].tolist()
    between = np.interp(full[:, 1], short[:, 1], short[:, 0])
    assert np.abs(between - full[:, 0].numpy())[full[:, 1] > full[0, 1]].mean() < 0.05


def test_a_class_without_a_known_positive_has_no_curve() -> None:
    assert all(len(part) == 0 for part in precision_recall_curve(torch.rand(3), torch.tensor([0, -1, 0])))
