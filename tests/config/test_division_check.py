"""Keys that divide the data and contradict each other are errors before torch is imported."""

from typing import Any

import pytest
from conf_groups import composed

from fovea.cli.paths import quoted
from fovea.config.check import check
from fovea.config.division_check import check_division

PATTERN = "data.group_pattern='(p\\d{1,3})_'"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"folds": 5}, "data.folds=5 needs data.fold=, from 0 to 4, or data.fold=all"),
        ({"fold": 0}, "data.fold=0 needs the number of folds"),
        ({"folds": 5, "fold": 5}, "data.fold=5: the folds of data.folds=5 have the numbers 0 to 4"),
        ({"folds": 5, "fold": 0, "test_fraction": 0.1}, "data.folds=5 data.test_fraction=0.1 both make a test"),
        ({"val_as_test": True, "test_fraction": 0.1}, "data.val_as_test=true data.test_fraction=0.1 both make a test"),
        ({"val_as_test": True, "folds": 5, "fold": 0}, "data.val_as_test=true data.folds=5 both make a test"),
        (
            {"group_column": "patient", "group_pattern": "(p)"},
            "data.group_column=patient data.group_pattern=.* keep",
        ),
        ({"group_pattern": "(p"}, r"data.group_pattern=\(p is not a regular expression: missing \)"),
        ({"group_pattern": "p"}, "has 0 groups in brackets and needs one"),
        ({"group_pattern": "(p)(q)"}, "has 2 groups in brackets and needs one"),
    ],
)
def test_a_contradiction_is_an_error_that_names_both_keys(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_division(data)
    words = [
        f"data.{key}={value}" if key != "group_pattern" else f"data.{key}='{value}'" for key, value in data.items()
    ]
    with pytest.raises(ValueError, match=message):
        check(composed("data=csv", "data.root=photos", *words), "train")


def test_a_pattern_is_text_as_it_was_typed() -> None:
    assert quoted(r"data.group_pattern=(p\d{1,3})_") == PATTERN
    assert composed(PATTERN).data.group_pattern == r"(p\d{1,3})_"
    check_division({"group_pattern": r"(p\d{1,3})_"})
