"""Replaces data.fold=all by the folds of a cross-validation, so that a sweep runs all of them."""

import re
from collections.abc import Sequence

ALL = "data.fold=all"


def with_all_folds(words: Sequence[str], switches: Sequence[str]) -> list[str]:
    """Return the command line with data.fold=0,1,... instead of data.fold=all, as a sweep.

    Args:
        words: the command line.
        switches: those that ask for a sweep; the first is added if there is none.

    Raises:
        ValueError: the number of folds is not typed, or a sweeper would choose among the folds.
    """
    if ALL not in words:
        return list(words)
    typed = [found[1] for word in words if (found := re.fullmatch(r"data\.folds=(\d+)", word))]
    if len(typed) != 1:
        raise ValueError(f"{ALL} needs the number of folds beside it, such as data.folds=5")
    if sweeper := next((word for word in words if word.startswith("hydra/sweeper=")), None):
        raise ValueError(
            f"{ALL} with {sweeper}: this sweeper would search for the best fold; type one fold for a search"
        )
    folds = "data.fold=" + ",".join(map(str, range(int(typed[0]))))
    switch = [] if set(switches) & set(words) else [switches[0]]
    return [*switch, *(folds if word == ALL else word for word in words)]
