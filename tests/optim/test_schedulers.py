"""The composed schedules, compared with torch's own built by hand."""

import itertools
import math
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, LinearLR, LRScheduler, StepLR

from fovea.optim.schedulers import chained, inverse_square_root, sequential, warmup_cosine, warmup_stable_decay

LINEAR = partial(LinearLR, start_factor=0.25, total_iters=3)


def sgd(lr: float = 0.4) -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(scheduler: LRScheduler, steps: int) -> list[float]:
    """Return the learning rate at each of the first steps."""
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(steps):
            values.append(scheduler.optimizer.param_groups[0]["lr"])
            scheduler.optimizer.step()
            scheduler.step()
    return values


def test_sequential_starts_the_second_schedule_from_its_beginning() -> None:
    schedule = sequential(sgd(), [LINEAR, partial(StepLR, step_size=2, gamma=0.5)], [3])
    assert rates(schedule, 8) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.2, 0.2, 0.1])


def test_chained_schedules_multiply() -> None:
    schedule = chained(sgd(), [LINEAR, partial(ExponentialLR, gamma=0.9)])
    first, second = rates(LINEAR(sgd()), 6), rates(ExponentialLR(sgd(), gamma=0.9), 6)
    assert rates(schedule, 6) == pytest.approx([a * b / 0.4 for a, b in zip(first, second, strict=True)])


def test_warmup_cosine_rises_to_the_learning_rate_and_falls_to_its_final_fraction() -> None:
    values = rates(warmup_cosine(sgd(1.0), total_steps=13, warmup=0.23, final_factor=0.2), 15)
    assert values[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert values[8] == pytest.approx(0.6)  # half way from step 3 to step 13
    assert values[13:] == pytest.approx([0.2, 0.2])  # after the end
    assert all(a > b for a, b in itertools.pairwise(values[3:14]))


def test_warmup_cosine_without_warmup_is_a_cosine() -> None:
    values = rates(warmup_cosine(sgd(1.0), total_steps=10, warmup=0.0), 10)
    assert values == pytest.approx([(1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)])


def test_warmup_cosine_resumes_where_it_stopped() -> None:
    whole = rates(warmup_cosine(sgd(), 10, warmup=0.3), 10)
    optimizer = sgd()
    first = warmup_cosine(optimizer, 10, warmup=0.3)
    begun = rates(first, 4)
    resumed = warmup_cosine(again := sgd(), 10, warmup=0.3)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(first.state_dict())
    assert begun + rates(resumed, 6) == pytest.approx(whole)


def test_warmup_cosine_without_an_end_of_training_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_epochs or trainer\.max_steps"):
        warmup_cosine(sgd(), total_steps=None)


@pytest.mark.parametrize("warmup", [5, 1.0, -0.1])
def test_warmup_is_a_share_and_not_a_number_of_steps(warmup: float) -> None:
    with pytest.raises(ValueError, match=f"scheduler.warmup={warmup}"):
        warmup_cosine(sgd(), total_steps=100, warmup=warmup)


def test_inverse_square_root_peaks_at_the_end_of_its_warmup() -> None:
    factors = [inverse_square_root(step, warmup_steps=4) for step in range(16)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[15] == pytest.approx(0.5)  # sqrt(4 / 16)
    vaswani = [min((s + 1) ** -0.5, (s + 1) * 4**-1.5) for s in range(16)]
    assert factors == pytest.approx([v / max(vaswani) for v in vaswani])


@pytest.mark.parametrize(
    ("shape", "middle"), [("linear", 0.5), ("cosine", 0.5), ("sqrt", 1 - math.sqrt(0.5))], ids=lambda value: str(value)
)
def test_warmup_stable_decay_keeps_the_rate_between_its_warmup_and_its_decay(shape: Any, middle: float) -> None:
    values = rates(warmup_stable_decay(sgd(1.0), 20, warmup=0.15, decay=0.4, shape=shape, final_factor=0.2), 22)
    assert values[:3] == pytest.approx([0.25, 0.5, 0.75])
    assert values[3:13] == [1.0] * 10
    assert values[16] == pytest.approx(0.2 + 0.8 * middle)
    assert values[20:] == pytest.approx([0.2, 0.2])  # after the end
    assert all(a > b for a, b in itertools.pairwise(values[12:21]))


def test_warmup_stable_decay_with_a_linear_decay_equals_torchs_schedules_in_sequence() -> None:
    theirs = sequential(
        sgd(),
        [
            partial(LinearLR, start_factor=1 / 4, total_iters=3),
            partial(ConstantLR, factor=1.0),
            partial(LinearLR, start_factor=1.0, end_factor=0.0, total_iters=4),
        ],
        [3, 16],
    )
    ours = warmup_stable_decay(sgd(), 20, warmup=0.15, decay=0.2, shape="linear")
    assert rates(ours, 20) == pytest.approx(rates(theirs, 20))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warmup": 0.5, "decay": 0.6}, "scheduler.warmup=0.5 scheduler.decay=0.6"),
        ({"decay": -0.1}, "scheduler.decay=-0.1"),
        ({"shape": "steep"}, "scheduler.shape=steep: there are linear, cosine, sqrt"),
        ({"total_steps": None}, "scheduler=warmup_stable_decay needs to know the end"),
    ],
)
def test_impossible_shares_and_shapes_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        warmup_stable_decay(sgd(), **{"total_steps": 20} | options)
