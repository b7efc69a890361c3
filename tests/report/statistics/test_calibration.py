"""Calibration figures against plain loops and scikit-learn, and temperature scaling against logits and a grid."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from fovea.report.prediction_file import Predictions
from fovea.report.statistics import calibration
from fovea.report.statistics.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)


def single_label(scale: float = 1.0, images: int = 400) -> Predictions:
    """A calibrated classifier whose logits are then multiplied by `scale`."""
    generator = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(images, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    return Predictions("multiclass", list("abcd"), [""] * images, labels, (scale * logits).softmax(1))


def multilabel(scale: float = 1.0, images: int = 300) -> Predictions:
    """As above, with unknown labels."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(images, 3, generator=generator) - 1
    labels = (torch.rand(images, 3, generator=generator) < logits.sigmoid()).char()
    labels[torch.rand(images, 3, generator=generator) < 0.2] = -1
    return Predictions("multilabel", list("abc"), [""] * images, labels, (scale * logits).sigmoid())


def test_the_bins_of_a_single_label_are_those_of_a_plain_loop() -> None:
    predictions, error = single_label(2.0), 0.0
    confidence, predicted = (part.numpy() for part in predictions.probabilities.double().max(1))
    found = reliability(predictions)
    for n in range(15):
        inside = (confidence > n / 15) & (confidence <= (n + 1) / 15)
        assert found.counts[n] == inside.sum()
        if inside.any():
            accuracy = np.mean(predicted[inside] == predictions.labels.numpy()[inside])
            assert found.accuracy[n] == pytest.approx(accuracy)
            assert found.confidence[n] == pytest.approx(confidence[inside].mean())
            error += inside.mean() * abs(accuracy - confidence[inside].mean())
        else:
            assert found.accuracy[n].isnan() and found.confidence[n].isnan()
    assert expected_calibration_error(found) == pytest.approx(error)


def test_the_bins_of_several_labels_are_those_of_scikit_learn_over_known_labels() -> None:
    predictions = multilabel()
    known = predictions.labels != -1
    present, mean = calibration_curve(predictions.labels[known], predictions.probabilities[known], n_bins=7)
    found = reliability(predictions, bins=7)
    filled = found.counts > 0
    assert found.counts.sum() == known.sum()
    np.testing.assert_allclose(found.accuracy[filled], present)
    np.testing.assert_allclose(found.confidence[filled], mean, rtol=1e-6)


def test_probabilities_of_0_and_1_are_in_the_first_and_last_bin() -> None:
    labels = torch.tensor([[0, 1]], dtype=torch.int8)
    found = reliability(Predictions("multilabel", ["a", "b"], [""], labels, torch.tensor([[0.0, 1.0]])))
    assert (found.counts[0], found.counts[-1], found.counts.sum()) == (1, 1, 2)
    assert expected_calibration_error(found) == 0


@pytest.mark.parametrize("at_once", [5, 10_000_000])
def test_the_likelihood_is_scikit_learns(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(calibration, "AT_ONCE", at_once)
    one, several = single_label(1.7), multilabel(1.7)
    exact = one.probabilities.double() / one.probabilities.double().sum(1, keepdim=True)  # sums are 1 in float64 too
    assert negative_log_likelihood(one) == pytest.approx(log_loss(one.labels, exact), rel=1e-5)
    known = several.labels != -1
    expected = log_loss(several.labels[known], several.probabilities[known].double())
    assert negative_log_likelihood(several) == pytest.approx(expected, rel=1e-5)


def test_the_likelihood_of_certain_mistakes_is_finite() -> None:
    one = Predictions("multiclass", ["a", "b"], [""], torch.tensor([0]), torch.tensor([[0.0, 1.0]]))
    assert negative_log_likelihood(one) == pytest.approx(-np.log(2.0**-126), rel=1e-6)
    labels = torch.tensor([[1, 0]], dtype=torch.int8)
    several = Predictions("multilabel", ["a", "b"], [""], labels, torch.tensor([[0.0, 1.0]]))
    assert negative_log_likelihood(several) == pytest.approx(-np.log(2.0**-126 * 2.0**-24) / 2, rel=1e-6)


@pytest.mark.parametrize("make", [single_label, multilabel])
@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_best_of_a_grid_and_near_what_the_logits_were_multiplied_by(
    make: Callable[[float], Predictions], scale: float
) -> None:
    predictions = make(scale)
    found = fit_temperature(predictions)
    assert found == pytest.approx(scale, rel=0.15)

    def likelihood(temperature: float) -> float:
        scaled = apply_temperature(predictions.probabilities, temperature, predictions.task)
        return negative_log_likelihood(replace(predictions, probabilities=scaled))

    best = likelihood(found)
    assert all(best <= likelihood(t) + 1e-6 for t in np.geomspace(0.05, 20, 200))
    assert likelihood(found) <= negative_log_likelihood(predictions)


def test_temperature_divides_the_logits() -> None:
    logits = 3 * torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    for temperature in (0.3, 2.0):
        one = apply_temperature(logits.softmax(1), temperature, "multiclass")
        torch.testing.assert_close(one, (logits / temperature).softmax(1), rtol=1e-4, atol=1e-7)
        several = apply_temperature(logits.sigmoid(), temperature, "multilabel")
        torch.testing.assert_close(several, (logits / temperature).sigmoid(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("temperature", [0.05, 0.9, 20.0])
def test_probabilities_of_0_and_1_stay_finite_and_in_order(
    task: Literal["multiclass", "multilabel"], temperature: float
) -> None:
    values = torch.tensor([[0.0, 1e-45, 1.0], [0.0, 1e-30, 1.0], [0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    found = apply_temperature(values, temperature, task)
    assert found.dtype == torch.float32
    assert ((found >= 0) & (found <= 1)).all()
    assert (found.diff(dim=1) >= 0).all()
    if task == "multiclass":
        torch.testing.assert_close(found.sum(1), torch.ones(4))


def test_a_temperature_of_1_returns_the_same_tensor() -> None:
    values = torch.rand(3, 2)
    assert apply_temperature(values, 1.0, "multiclass") is values


def test_the_temperature_is_bounded_if_each_prediction_is_right_or_wrong() -> None:
    right = Predictions(
        "multiclass", ["a", "b"], ["", ""], torch.tensor([0, 1]), torch.tensor([[0.7, 0.3], [0.4, 0.6]])
    )
    assert fit_temperature(right) == 0.05
    assert fit_temperature(replace(right, labels=torch.tensor([1, 0]))) == 20


@pytest.mark.parametrize("probabilities", [torch.full((2, 2), 0.5), torch.eye(2)])
def test_the_temperature_is_1_if_it_makes_no_difference(probabilities: torch.Tensor) -> None:
    assert fit_temperature(Predictions("multiclass", ["a", "b"], ["", ""], torch.arange(2), probabilities)) == 1


def test_without_a_known_label_there_is_no_temperature() -> None:
    nothing = replace(multilabel(), labels=torch.full((300, 3), -1, dtype=torch.int8))
    assert np.isnan(negative_log_likelihood(nothing))
    assert np.isnan(expected_calibration_error(reliability(nothing)))
    with pytest.raises(ValueError, match="no label of the validation split is known"):
        fit_temperature(nothing)
