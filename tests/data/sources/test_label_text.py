import ast
import logging
import random

import pytest

from fovea.data.sources.label_text import check_names, in_order, proposed_separator, splitter, without_zero_fraction


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
def test_a_text_is_separated_into_names(separator: str, text: str, names: list[str]) -> None:
    assert splitter(separator)(text) == names


@pytest.mark.parametrize("text", ["cat", "['a'", "['a' x'b']", "[[1], 2", "['a\"]", "[" * 10_000])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no list such as"):
        splitter("list")(text)


def test_lists_are_those_that_python_reads() -> None:
    draw = random.Random(0)
    names = ["cat", "polar bear", "it's", "a, b", "[x]", "é"]
    for _ in range(200):
        text = repr(draw.sample(names, draw.randrange(5)))
        assert splitter("list")(text) == ast.literal_eval(text)


def test_names_joined_from_other_names_are_refused_by_the_mark_between_them() -> None:
    with pytest.raises(ValueError, match=r"x: 7 images have 1 names, such as 'cat, dog', that are several .*\n.*use ,"):
        check_names("x", {"cat, dog": 7, "cat": 5, "dog": 2}, "use {separator}")


def test_names_with_a_mark_in_them_alone_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    check_names("x", {"tench, Tinca tinca": 3, "AP/PA": 1, "AP": 1, "PA": 4}, "use {separator}")
    assert len(caplog.messages) == 2
    assert "3 images have 1 names, such as 'tench, Tinca tinca', with ','" in caplog.messages[0]
    assert "1 images have 1 names, such as 'AP/PA', with '/'" in caplog.messages[1]


def test_ordinary_names_are_not_doubted(caplog: pytest.LogCaptureFixture) -> None:
    check_names("x", {"No Finding": 3, "dog (poodle)": 1, "rock 'n' roll": 1, "c++": 2}, "")
    assert not caplog.messages
    assert proposed_separator(["No Finding", "polar bear"]) == "none"


def test_whole_numbers_are_ordered_by_value_and_names_as_text() -> None:
    assert in_order({"10", "9", "-1"}) == ("-1", "9", "10")
    assert in_order({"10", "9", "x"}) == ("10", "9", "x")
    assert [without_zero_fraction(text) for text in ("1.0", "1.5", "01", "v1.0", "-2.00")] == [
        "1",
        "1.5",
        "01",
        "v1.0",
        "-2",
    ]
