"""The range test's rates, smoothing and suggestions against plain loops and a curve whose steepest point is known."""

import functools
import math

import numpy as np
import pytest
import torch
from tasks import Data, batch, make_batches, make_task, make_trainer
from torch import nn
from torch.optim import SGD

from fovea.optim.range_test import RecordLosses, rising_rates, rising_schedule, smoothed, suggestion


def test_the_rates_rise_in_equal_ratios() -> None:
    rates = rising_rates(1e-6, 10.0, 100)
    assert (len(rates), rates[0], rates[-1]) == (100, pytest.approx(1e-6), pytest.approx(10))
    np.testing.assert_allclose(rates[1:] / rates[:-1], 1e7 ** (1 / 99))


def test_parameter_groups_keep_their_ratios() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.01}], lr=0.1)
    rates = rising_rates(1e-3, 1.0, 4)
    schedule = rising_schedule(rates, 0.1)(optimizer)
    for rate in [*rates, rates[-1]]:
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, rate / 10])
        optimizer.step()
        schedule.step()


def test_the_smoothed_loss_is_the_weighted_mean_of_the_losses_so_far() -> None:
    losses = np.random.default_rng(0).random(30)
    for n, mean in enumerate(smoothed(losses, 0.8)):
        weights = [0.8 ** (n - i) for i in range(n + 1)]
        assert mean == pytest.approx(np.average(losses[: n + 1], weights=weights))


def test_the_suggestions_are_the_steepest_point_and_a_tenth_of_the_minimum() -> None:
    rates = rising_rates(1e-6, 10.0, 400)
    fall = -1 / (1 + np.exp(-4 * np.log10(rates / 1e-3)))  # steepest at 1e-3
    rise = np.exp(8 * np.log10(rates / 1))  # the sum is least between the two
    least = rates[(fall + rise).argmin()]
    found = suggestion(rates, fall + rise)
    assert found.steepest == pytest.approx(1e-3, rel=0.1)
    assert found.tenth_of_minimum == pytest.approx(least / 10)


@pytest.mark.parametrize("losses", [np.arange(1.0, 40), np.arange(5.0, 0, -1)], ids=["rising", "too few"])
def test_losses_that_suggest_nothing_are_an_error(losses: np.ndarray) -> None:
    with pytest.raises(ValueError, match="did not fall(.|\n)*change lowest_lr"):
        suggestion(rising_rates(0.1, 1, len(losses)), losses)


def test_the_losses_of_steps_are_those_of_a_plain_loop() -> None:
    """Two batches a step; the network is linear, so that nothing is random."""

    def linear() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))

    batches, rates, recorder = make_batches(6), rising_rates(1e-3, 0.1, 3), RecordLosses()
    task = make_task(
        network=linear(),
        optimizer=functools.partial(SGD, lr=0.5),
        schedule=rising_schedule(rates, 0.5),
        interval="step",
    )
    make_trainer(recorder, max_steps=3, accumulate_grad_batches=2).fit(task, datamodule=Data(batches))
    network, expected = linear(), []
    for rate, first in zip(rates, range(0, 6, 2), strict=True):
        both = [nn.functional.cross_entropy(network(b.images), b.targets) for b in batches[first : first + 2]]
        loss = torch.stack(both).mean()
        expected.append(loss.item())
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.sub_(float(rate) * gradient)
    assert recorder.losses == pytest.approx(expected, rel=1e-5)


def test_it_stops_when_the_loss_is_no_longer_finite() -> None:
    batches = make_batches(6)
    batches[2] = batch(batches[2].targets)._replace(images=batches[2].images * math.nan)
    recorder = RecordLosses()
    trainer = make_trainer(recorder, max_steps=6)
    trainer.fit(make_task(), datamodule=Data(batches))
    assert trainer.global_step == 3
    assert len(recorder.finite()) == 2
