import ast
import logging
import random

import pytest

from fovea.data.sources.label_text import (
    check_names,
    guess_separator,
    sort_class_names,
    splitter,
    without_zero_fraction,
)


@pytest.mark.parametrize(
    ("separator", "text", "names"),
    [
        ("|", " a| b c |", ["a", "b c"]),
        (" ", "a  b", ["a", "b"]),
        ("none", " a b ", ["a b"]),
        ("none", " ", []),
        ("list", "", []),
        ("list", "['a, b', \"it's\"]", ["a, b", "it's"]),
        ("list", "('a',)", ["a"]),
        ("list", "[3, 5]", ["3", "5"]),
        ("list", "[polar bear, cat]", ["polar bear", "cat"]),
        ("list", "['a' 'b'\n 'c']", ["a", "b", "c"]),
    ],
)
def test_a_text_is_split_into_names(separator: str, text: str, names: list[str]) -> None:
    assert splitter(separator)(text) == names


@pytest.mark.parametrize("text", ["cat", "['a'", "['a' x'b']", "[[1], 2", "['a\"]", "[" * 10_000])
def test_a_text_that_is_not_a_list_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a list such as"):
        splitter("list")(text)


def test_lists_are_parsed_as_python_does() -> None:
    draw = random.Random(0)
    names = ["cat", "polar bear", "it's", "a, b", "[x]", "é"]
    for _ in range(200):
        text = repr(draw.sample(names, draw.randrange(5)))
        assert splitter("list")(text) == ast.literal_eval(text)


def test_names_that_consist_of_other_names_and_a_separator_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"x: 7 images have 1 names, such as 'cat, dog', that are other .*\n.*use ,"):
        check_names("x", {"cat, dog": 7, "cat": 5, "dog": 2}, "use {separator}")


def test_names_that_only_contain_a_separator_give_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    check_names("x", {"tench, Tinca tinca": 3, "AP/PA": 1, "AP": 1, "PA": 4}, "use {separator}")
    assert len(caplog.messages) == 2
    assert "3 images have 1 names, such as 'tench, Tinca tinca', with ','" in caplog.messages[0]
    assert "1 images have 1 names, such as 'AP/PA', with '/'" in caplog.messages[1]


def test_ordinary_names_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    check_names("x", {"No Finding": 3, "dog (poodle)": 1, "rock 'n' roll": 1, "c++": 2}, "")
    assert not caplog.messages
    assert guess_separator(["No Finding", "polar bear"]) == "none"


def test_class_names_are_sorted_by_value_if_they_are_whole_numbers_else_as_text() -> None:
    assert sort_class_names({"10", "9", "-1"}) == ("-1", "9", "10")
    assert sort_class_names({"10", "9", "x"}) == ("10", "9", "x")
    assert [without_zero_fraction(text) for text in ("1.0", "1.5", "01", "v1.0", "-2.00")] == [
        "1",
        "1.5",
        "01",
        "v1.0",
        "-2",
    ]
