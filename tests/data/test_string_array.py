"""String arrays compared with lists of strings."""

import os
import pickle
from itertools import pairwise
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
import torch.multiprocessing  # which teaches the pickler to share tensors
from torch import Tensor

from fovea.data import string_array as module
from fovea.data.string_array import StringArray, join

ODD = os.fsdecode(b"/d/n\xff\xfe.jpg")  # file systems allow names that are not UTF-8
NAMES = ["/d/a.jpg", "/d/été 1.jpg", "/d/", ODD, "/d/two\nlines.jpg", "/d/猫/b.png", "/d/a.jpg"]


@pytest.fixture(params=["plain", "prefix", "taken", "sliced", "joined"])
def strings(request: pytest.FixtureRequest) -> StringArray:
    """NAMES, made in several ways."""
    mixed = StringArray.of(["/d/x", *reversed(NAMES), "/d/y"], "/d/")
    back = torch.arange(len(NAMES), 0, -1)
    return {
        "plain": StringArray.of(NAMES),
        "prefix": StringArray.of(NAMES, "/d/"),
        "taken": mixed.take(back),
        "sliced": StringArray.of(["/d/x", *NAMES, "/d/y"], "/d/")[1:-1],
        "joined": join([StringArray.of(NAMES[:2], "/d/"), StringArray.of(NAMES[2:])]),
    }[request.param]


def test_a_string_array_contains_the_strings_it_was_built_from(strings: StringArray) -> None:
    assert list(strings) == NAMES
    assert [strings[n] for n in range(len(NAMES))] == NAMES
    assert all(type(name) is str for name in strings)
    assert len(strings) == len(NAMES)
    assert strings == NAMES
    assert strings != NAMES[1:]
    assert strings != NAMES[::-1]


def test_indexing_and_slicing_match_a_list(strings: StringArray) -> None:
    assert [strings[-n] for n in range(1, len(NAMES) + 1)] == NAMES[::-1]
    for n in (len(NAMES), -len(NAMES) - 1):
        with pytest.raises(IndexError):
            strings[n]
    bounds = [None, 0, 1, 3, 7, 20, -1, -3, -20]
    for part in (slice(a, b, c) for a in bounds for b in bounds for c in (None, 1, 2, -1, -3)):
        assert list(strings[part]) == NAMES[part], part
    assert list(strings[1:6][1:][-2:]) == NAMES[1:6][1:][-2:]


def test_take_can_be_repeated_and_sliced(strings: StringArray) -> None:
    first = [6, 0, 3, 3, 5]
    assert list(strings.take(torch.tensor(first)).take(torch.tensor([4, 2, 0]))) == [NAMES[5], NAMES[3], NAMES[6]]
    assert list(strings.take(torch.tensor(first))[1:]) == [NAMES[n] for n in first[1:]]


def test_an_empty_array_equals_an_empty_list() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    for empty in (
        StringArray.of([]),
        StringArray.of(NAMES)[3:3],
        StringArray.of(NAMES).take(nothing),
        join([StringArray.of([])]),
    ):
        assert list(empty) == []
        assert len(empty) == 0
        assert empty == []


def test_a_prefix_that_one_string_lacks_is_not_used() -> None:
    assert StringArray.of(NAMES, "/d/").prefix == "/d/"
    other = StringArray.of([*NAMES, "/e/1"], "/d/")
    assert other.prefix == ""
    assert other == [*NAMES, "/e/1"]


def test_join_keeps_a_common_prefix() -> None:
    several = [StringArray.of(NAMES, "/d/"), StringArray.of(["/d/x"], "/d/"), StringArray.of(["/e/é"], "/e/")]
    assert join(several[:2]).prefix == "/d/"
    assert join(several[:2]) == [*NAMES, "/d/x"]
    assert join(several) == [*NAMES, "/d/x", "/e/é"]


def test_chunks_hold_everything_whatever_their_size(strings: StringArray, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 3, 100):
        monkeypatch.setattr(module, "CHUNK", size)
        found = []
        for text, starts in strings.chunks():
            assert 1 < len(starts) <= size + 1
            found += [os.fsdecode(text[a:b].tobytes()) for a, b in pairwise(starts)]
        assert [strings.prefix + name for name in found] == NAMES
        assert list(strings) == list(StringArray.of(NAMES, "/d/")) == NAMES


def test_a_slice_of_consecutive_strings_needs_no_rows() -> None:
    part = StringArray.of(NAMES)[2:5]
    assert part.rows is None


def columns(strings: StringArray) -> list[Tensor]:
    assert strings.rows is not None
    return [strings.text, strings.starts, strings.rows]


def test_a_spawned_process_receives_the_strings_as_shared_memory() -> None:
    names = [f"/d/{n:060}" for n in range(10_000)]
    strings = StringArray.of(names, "/d/").take(torch.arange(9_999, -1, -1))
    pickled = ForkingPickler.dumps(strings)
    assert all(column.untyped_storage().is_shared() for column in columns(strings))
    assert len(pickled) < 2000
    there = pickle.loads(pickled)
    assert there == names[::-1]
    strings.text[:60] = ord("x")
    assert there[-1] == "/d/" + 60 * "x"


def test_many_paths_take_little_more_than_their_characters() -> None:
    names = [f"/data/{n // 1000:027}/{n:022}.jpg" for n in range(100_000)]
    assert {len(name) for name in names[::1000]} == {60}
    strings = StringArray.of(names, "/data/")
    taken = strings.take(torch.arange(len(names)))
    assert sum(column.untyped_storage().nbytes() for column in columns(taken)) < 1.2 * (60 + 8 + 8) * len(names)
    assert (taken[0], taken[-1]) == (names[0], names[-1])
