"""Checks that the keys of `data` which divide the images into splits fit together, before torch is imported."""

import re
from collections.abc import Mapping
from typing import Any


def check_division(data: Mapping[str, Any]) -> None:
    """Raise ValueError if two of the keys contradict each other, or if the pattern of the groups is not valid.

    Args:
        data: the section of the config; keys that a datamodule of one's own lacks count as null.
    """
    _check_folds(data.get("folds"), data.get("fold"), data.get("test_fraction"))
    if data.get("val_as_test") and data.get("test_fraction"):
        raise ValueError(f"data.val_as_test=true data.test_fraction={data['test_fraction']} both make a test: keep one")
    if data.get("val_as_test") and data.get("folds") is not None:
        raise ValueError(f"data.val_as_test=true data.folds={data['folds']} both make a test: keep one")
    _check_groups(data.get("group_column"), data.get("group_pattern"))


def _check_folds(folds: int | None, fold: int | None, test_fraction: float | None) -> None:
    if folds is None and fold is not None:
        raise ValueError(f"data.fold={fold} needs the number of folds, such as data.folds=5")
    if folds is None:
        return
    if fold is None:
        raise ValueError(
            f"data.folds={folds} needs data.fold=, from 0 to {folds - 1}, or data.fold=all for all of them"
        )
    if fold >= folds:
        raise ValueError(f"data.fold={fold}: the folds of data.folds={folds} have the numbers 0 to {folds - 1}")
    if test_fraction:
        raise ValueError(f"data.folds={folds} data.test_fraction={test_fraction} both make a test: keep one")


def _check_groups(column: str | None, pattern: str | None) -> None:
    if column and pattern:
        raise ValueError(f"data.group_column={column} data.group_pattern={pattern} both name the groups: keep one")
    if pattern:
        _check_pattern(pattern)


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"data.group_pattern={pattern} is not a regular expression: {error}") from error
    if groups != 1:
        raise ValueError(
            f"data.group_pattern={pattern} has {groups} groups in brackets and needs one, such as '(patient\\d+)_'; "
            "(?:...) are brackets that are no group"
        )
