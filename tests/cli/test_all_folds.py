"""data.fold=all becomes a sweep over the folds."""

import pytest

from fovea.cli.all_folds import with_all_folds
from fovea.cli.entry import _typed
from fovea.cli.sweep import SWITCHES


def test_all_folds_are_a_sweep_over_their_numbers() -> None:
    words = ["data=folder", "data.folds=3", "data.fold=all", "seed=1"]
    expected = ["-m", "data=folder", "data.folds=3", "data.fold=0,1,2", "seed=1"]
    assert with_all_folds(words, SWITCHES) == expected
    assert with_all_folds(["-m", *words], SWITCHES) == expected
    assert with_all_folds(["hydra.mode=MULTIRUN", *words], SWITCHES) == ["hydra.mode=MULTIRUN", *expected[1:]]
    assert with_all_folds(expected, SWITCHES) == expected
    assert _typed(words, ("resume", "rerun")) == expected
    assert "data.fold=all" in _typed(words, ("run",))  # an evaluation has one fold


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs the number of folds beside it, such as data.folds=5"),
        (["data.folds=3,5"], "needs the number of folds beside it"),
        (["data.folds=3", "hydra/sweeper=optimize"], "would search for the best fold"),
    ],
)
def test_all_folds_of_no_number_or_of_a_search_are_an_error(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_all_folds([*words, "data.fold=all"], SWITCHES)
