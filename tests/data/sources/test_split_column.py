import logging
from pathlib import Path

import pytest

from fovea.data.sources.split_column import SplitColumns, is_split_name

FILE = Path("labels.csv")


def decide(
    columns: dict[str, list[str]],
    chosen: str | None = None,
    disabled: bool = False,
    values: dict[str, str] | None = None,
) -> list[str]:
    header = list(columns)
    position = header.index(chosen) if chosen else None
    split = SplitColumns(header, range(len(header)), position, disabled, values or {})
    rows = list(zip(*columns.values(), strict=True))
    for row in rows:
        split.add(row)
    return split.decide(FILE, len(rows))


@pytest.mark.parametrize(
    "name", ["split", "Split", "SET", "subset", "partition", "Phase", "fold", "is_valid", "isTest"]
)
def test_usual_column_names_are_recognized_in_any_case(name: str) -> None:
    assert is_split_name(name)


@pytest.mark.parametrize("name", ["split", "SET", "data_part"])
@pytest.mark.parametrize(
    ("values", "splits"),
    [
        (["train", "valid", "test"], ["train", "val", "test"]),
        (["Training", "Validation", "Testing"], ["train", "val", "test"]),
        (["TRAIN", " dev ", "Test"], ["train", "val", "test"]),
    ],
)
def test_usual_values_are_read(name: str, values: list[str], splits: list[str]) -> None:
    columns = {"note": ["x", "y", "z"], name: values}
    if is_split_name(name):
        assert decide(columns) == splits
    else:
        with pytest.raises(ValueError, match=f"split_column={name}'(.|\n)*split_column=false"):
            decide(columns)
        assert decide(columns, chosen=name) == splits


@pytest.mark.parametrize("yes", ["True", "1", "1.0", "yes"])
@pytest.mark.parametrize(("name", "split"), [("is_valid", "val"), ("is_test", "test"), ("IsVal", "val")])
def test_a_boolean_column_gives_the_rows_that_are_not_train(name: str, split: str, yes: str) -> None:
    assert decide({name: [yes, "False", "0"]}) == [split, "train", "train"]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("partition", ["0", "1", "2"], "split_values={0: ?, 1: ?, 2: ?}"),
        ("Usage", ["Training", "PublicTest", "x"], "{PublicTest: test, Training: train, x: ?}"),
        ("is_train", ["1", "0", "1"], "split_values={0: ?, 1: ?}"),
        ("is_valid", ["1", "0", ""], "'' (1 rows)"),
        ("split", ["train", "holdout", "holdout"], "1 values are not a split: 'holdout' (2 rows)"),
    ],
)
def test_other_values_are_an_error_unless_split_values_maps_them(name: str, values: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"column '{name}'") as caught:
        decide({name: values})
    assert message in str(caught.value)
    assert "data.read.split_column=false" in str(caught.value)
    splits = {value.casefold(): "test" for value in values}
    assert decide({name: values}, values=splits) == ["test"] * 3


def test_two_possible_columns_are_an_error() -> None:
    columns = {"split": ["train", "test"], "is_valid": ["0", "1"]}
    with pytest.raises(ValueError, match=r"'split': 1 'train', 1 'test'\n.*'is_valid': 1 '0' \(train\), 1 '1' \(val\)"):
        decide(columns)
    assert decide(columns, chosen="is_valid") == ["train", "val"]


@pytest.mark.parametrize("unused", ["fold", "old_split"])
def test_an_unused_column_that_looks_like_a_split_gives_a_warning(
    unused: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    columns = {"split": ["train", "test"], unused: ["3", "4"] if unused == "fold" else ["test", "train"]}
    assert decide(columns, chosen="split") == ["train", "test"]
    assert f"column {unused!r} looks like a split and is not used: 1 " in caplog.text


def test_the_split_column_can_be_disabled_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert decide({"Split": ["train", "test"]}, disabled=True) == ["train", "train"]
    assert "column 'Split' looks like a split and is not used: 1 'train', 1 'test'" in caplog.text


def test_the_split_column_is_logged_with_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    decide({"Phase": ["train", "valid", "train"]})
    assert "column 'Phase' is the split: 2 'train', 1 'valid' (val)" in caplog.text
    decide({"kind": ["train", "train"]})
    assert "no column contains the split, so every row is train" in caplog.text
