import math

import pytest
import torch

from fovea.training.mean_loss import MeanLoss


def mean(*batches: tuple[float, float]) -> float:
    metric = MeanLoss()
    for value, known in batches:
        metric.update(torch.tensor(value), torch.tensor(known))
    return metric.compute().item()


def test_batches_count_by_what_is_known_in_them() -> None:
    assert mean((1.0, 3), (5.0, 1), (7.0, 0)) == pytest.approx((1 * 3 + 5) / 4)


def test_weights_may_be_fractions() -> None:
    assert mean((1.0, 0.25), (5.0, 1.5), (7.0, 0.0)) == pytest.approx((0.25 + 7.5) / 1.75)


def test_it_is_undefined_where_nothing_is_known() -> None:
    assert math.isnan(mean((0.0, 0), (0.0, 0)))


def test_one_loss_that_is_no_number_makes_the_mean_none() -> None:
    assert not torch.tensor(mean((1.0, 3), (torch.nan, 3), (1.0, 3))).isfinite()
    assert mean((1.0, 3), (torch.inf, 3)) == torch.inf


def test_a_billion_labels_are_counted_exactly() -> None:
    """float32 counts to 2^24."""
    metric = MeanLoss()
    metric.update(torch.tensor(1.0), torch.tensor(2**30))
    metric.update(torch.tensor(1.0), torch.tensor(1))
    assert metric.known == 2**30 + 1
