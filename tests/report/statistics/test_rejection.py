"""Coverage and accuracy by confidence, and the reject threshold, against trying each threshold."""

import numpy as np
import pytest
import torch

from fovea.report.prediction_file import Predictions
from fovea.report.statistics import rejection
from fovea.report.statistics.rejection import Kept, at_threshold, coverage_curve, reject_threshold


def predictions(images: int = 120, seed: int = 0, steps: int = 40) -> Predictions:
    """More confident predictions are more often right; confidences have ties."""
    generator = torch.Generator().manual_seed(seed)
    confidence = 0.5 + torch.randint(1, steps + 1, (images,), generator=generator) / (2 * steps)
    labels = (torch.rand(images, generator=generator) > confidence).long()
    return Predictions("multiclass", ["a", "b"], [""] * images, labels, torch.stack([confidence, 1 - confidence], 1))


def tried(tested: Predictions) -> list[Kept]:
    """Each confidence as the threshold, the lowest first."""
    confidence, predicted = (part.numpy() for part in tested.probabilities.max(1))
    right = predicted == tested.labels.numpy()
    kept = [(float(t), confidence >= t) for t in np.unique(confidence)]
    return [Kept(t, some.mean(), right[some].mean()) for t, some in kept]


def test_the_curve_has_each_confidence() -> None:
    tested = predictions()
    found = list(zip(*(part.tolist() for part in coverage_curve(tested)), strict=True))
    assert found == [pytest.approx(tuple(point)) for point in reversed(tried(tested))]


def test_a_long_curve_is_reduced_to_even_coverages(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = predictions(images=1000, steps=5000)
    short = torch.stack(coverage_curve(tested), 1)
    monkeypatch.setattr(rejection, "MOST_POINTS", 1000)
    full = torch.stack(coverage_curve(tested), 1)
    assert 90 <= len(short) <= 100 < len(full)
    assert {tuple(point) for point in short.tolist()} <= {tuple(point) for point in full.tolist()}
    assert short[-1].tolist() == full[-1].tolist()
    assert short[:, 1].diff().max() < 0.013


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("target", [0.8, 0.9, 0.99])
def test_the_threshold_is_the_lowest_that_reaches_the_target_or_the_highest_accuracy(seed: int, target: float) -> None:
    validation = predictions(seed=seed)
    enough = [kept for kept in tried(validation) if round(kept.coverage * 120) >= 20]
    reached = [kept for kept in enough if kept.accuracy >= target]
    best = max(kept.accuracy for kept in enough)
    expected = (reached or [kept for kept in enough if kept.accuracy == best])[0]
    found = reject_threshold(validation, target)
    assert found.threshold == pytest.approx(0 if expected.coverage == 1 else expected.threshold)
    assert found[1:] == pytest.approx(expected[1:])


def test_nothing_is_rejected_if_all_images_reach_the_target_or_are_few() -> None:
    validation = predictions()
    assert reject_threshold(validation, 0.1)[:2] == (0, 1)
    assert reject_threshold(validation.take(range(20)), 1.0)[:2] == (0, 1)
    with pytest.raises(ValueError, match="no images"):
        reject_threshold(validation.take([]))


def test_the_effect_on_other_images_is_counted() -> None:
    other = predictions(seed=5)
    for kept in tried(other):
        assert tuple(at_threshold(other, kept.threshold)) == pytest.approx(tuple(kept))
    nothing = at_threshold(other, 1.1)
    assert nothing.coverage == 0
    assert np.isnan(nothing.accuracy)
