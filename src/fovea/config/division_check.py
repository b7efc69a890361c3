"""Checks that the keys of `data` which divide the images into splits fit together, before torch is imported."""

import re
from collections.abc import Mapping
from typing import Any


def check_division(data: Mapping[str, Any]) -> None:
    """Raise ValueError if two of the keys contradict each other, or if the pattern of the groups is not valid.

    Args:
        data: the section of the config; keys that a datamodule of one's own lacks count as null.
    """
    _check_groups(data.get("group_column"), data.get("group_pattern"), data.get("store"))


def _check_groups(column: str | None, pattern: str | None, store: str | None) -> None:
    if column and pattern:
        raise ValueError(f"data.group_column={column} data.group_pattern={pattern} both name the groups: keep one")
    if column and store:
        raise ValueError(
            f"data.group_column={column}: the store {store} has no columns. data.group_pattern= takes the groups from "
            "the names of the images; data.store=null reads the table"
        )
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
