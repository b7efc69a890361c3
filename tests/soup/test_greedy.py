"""The chosen candidates are those of the paper's recipe, written as a plain loop over numbers."""

import math
from pathlib import Path

import pytest
import torch

from fovea.soup.candidates import Candidate
from fovea.soup.greedy import greedy


def candidate(position: float) -> Candidate:
    """Return a candidate whose "weight" is its value."""
    return Candidate(Path("run"), Path(f"{position}.ckpt"), position, {})


def by_recipe(positions: list[float], target: float) -> list[float]:
    """Return the chosen positions; their mean is the better, the nearer it is to the target."""
    chosen: list[float] = []
    for position in positions:
        with_it = [*chosen, position]
        worse = bool(chosen) and abs(sum(with_it) / len(with_it) - target) > abs(sum(chosen) / len(chosen) - target)
        chosen = chosen if worse else with_it
    return chosen


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("seed", [0, 1, 3, 4])
def test_a_candidate_is_added_if_the_average_does_not_get_worse(mode: str, seed: int) -> None:
    positions = torch.randn(12, generator=torch.Generator().manual_seed(seed)).tolist()
    sign = -1 if mode == "max" else 1

    def validate(chosen: list[Candidate]) -> float:
        return sign * abs(sum(one.value for one in chosen) / len(chosen) - 0.3)

    trials = list(greedy([candidate(position) for position in positions], validate, mode))
    assert [trial.candidate.value for trial in trials if trial.added] == by_recipe(positions, 0.3)
    assert [trial.candidate.value for trial in trials] == positions
    assert 1 < sum(trial.added for trial in trials) < 12


def test_an_equal_figure_adds_and_an_undefined_one_does_not() -> None:
    figures = iter([0.5, 0.5, math.nan, 0.5])
    trials = list(greedy([candidate(n) for n in range(4)], lambda _: next(figures), "max"))
    assert [trial.added for trial in trials] == [True, True, False, True]


def test_a_uniform_soup_adds_all_and_validates_once() -> None:
    sizes = []

    def validate(chosen: list[Candidate]) -> float:
        sizes.append(len(chosen))
        return 0.1

    trials = list(greedy([candidate(n) for n in range(4)], validate, "max", uniform=True))
    assert all(trial.added for trial in trials)
    assert sizes == [4]
    assert [math.isnan(trial.value) for trial in trials] == [True, True, True, False]
