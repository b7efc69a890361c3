"""Chooses which candidates are averaged."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from fovea.soup.candidates import Candidate


class Trial(NamedTuple):
    """A candidate that was tried; `value` is the monitor's of the average with it."""

    candidate: Candidate
    value: float
    added: bool


def greedy(
    found: Sequence[Candidate], validate: Callable[[list[Candidate]], float], mode: str, *, uniform: bool = False
) -> Iterator[Trial]:
    """Add each candidate to the average if the average's validation does not get worse; yield each trial.

    Source: Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, recipe 1.

    Args:
        found: the best first.
        validate: returns the monitor's value of the average of some candidates.
        mode: "max" or "min", of the monitor.
        uniform: add every candidate; only the average of all is validated, the values before it are nan.
    """
    chosen: list[Candidate] = []
    best = math.nan
    for n, candidate in enumerate(found):
        skipped = uniform and n < len(found) - 1
        value = math.nan if skipped else validate([*chosen, candidate])
        added = not chosen or uniform or (value >= best if mode == "max" else value <= best)
        if added:
            chosen, best = [*chosen, candidate], value
        yield Trial(candidate, value, added)
