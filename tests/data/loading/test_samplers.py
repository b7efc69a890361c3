import logging
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

from fovea.data.index import Index
from fovea.data.loading.samplers import ClassBalanced, Order, RepeatedAugmentation, Shuffled, Weighted
from fovea.data.string_array import StringArray

SIZES = [40, 9, 1, 0, 25]  # images of each class; one has none
NAMES = ["ant", "bee", "cat", "dog", "eel"]


def index_of(targets: Tensor) -> Index:
    return Index(StringArray.of([f"/data/{n}.png" for n in range(len(targets))], "/data/"), targets)


def single_label(sizes: list[int] = SIZES) -> Index:
    """In a mixed order."""
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return index_of(targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))])


MULTI_LABEL = index_of(torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, -1], [-1, 0, -1], [0, 0, 0], [1, 0, 0]]))


@pytest.fixture
def orders() -> list[Order]:
    index = single_label()
    return [
        Shuffled(index),
        RepeatedAugmentation(index),
        ClassBalanced(index, NAMES),
        Weighted(index, NAMES, power=1.0),
    ]


def test_an_epoch_follows_from_seed_and_epoch_and_is_as_long_as_said(orders: list[Order]) -> None:
    for order in orders:
        first = order.draw(seed=3, epoch=4)
        assert first.tolist() == order.draw(seed=3, epoch=4).tolist()
        assert first.tolist() != order.draw(seed=3, epoch=5).tolist()
        assert first.tolist() != order.draw(seed=4, epoch=4).tolist()
        assert len(first) == len(order) == 75
        assert first.dtype in (torch.int32, torch.int64)


@pytest.mark.parametrize("samples", [1, 3, 7, 75, 102, 1000])
def test_classes_come_equally_often_give_or_take_the_one_that_does_not_divide(samples: int) -> None:
    index = single_label()
    order = ClassBalanced(index, NAMES, samples)
    in_all: Counter[int] = Counter()
    for epoch in range(9):
        of_class = Counter(index.targets[order.draw(0, epoch)].tolist())
        assert sum(of_class.values()) == samples
        assert all(of_class[k] - samples // 4 in (0, 1) for k in (0, 1, 2, 4))
        in_all += of_class
        assert max(in_all.values()) - min(in_all[k] for k in (0, 1, 2, 4)) <= 1


@pytest.mark.parametrize("samples", [7, 75, 102, 1000])
def test_no_image_of_a_class_comes_twice_before_all_came_once(samples: int) -> None:
    index = single_label()
    order = ClassBalanced(index, NAMES, samples)
    for epoch in range(5):
        drawn = Counter(order.draw(0, epoch).tolist())
        for k in (0, 1, 2, 4):
            times = [drawn[n] for n in range(75) if index.targets[n] == k]
            assert max(times) - min(times) <= 1


def test_a_large_class_goes_on_with_other_images_in_the_next_epoch_and_begins_anew_in_another_order() -> None:
    index = single_label([12, 3])
    order = ClassBalanced(index, ["a", "b"], samples=8)  # four of the twelve an epoch

    def of_the_large(epoch: int) -> list[int]:
        return sorted(n for n in order.draw(0, epoch).tolist() if index.targets[n] == 0)

    rounds = [[of_the_large(epoch) for epoch in range(first, first + 3)] for first in (0, 3, 6)]
    everyone = [n for n in range(15) if index.targets[n] == 0]
    assert [sorted(chain(*parts)) for parts in rounds] == [everyone] * 3
    assert rounds[0] != rounds[1] != rounds[2]


def test_within_an_epoch_the_classes_are_mixed() -> None:
    index = single_label([500, 500])
    ones = index.targets[ClassBalanced(index, ["a", "b"]).draw(0, 0)]
    for part in ones.split(100):
        assert 25 < part.sum() < 75


def test_balancing_one_class_alone_is_shuffling_and_one_image_is_enough() -> None:
    index = single_label([30])
    draws = ClassBalanced(index, ["a"]).draw(0, 0)
    assert draws.tolist() != sorted(draws.tolist()) == list(range(30))
    assert ClassBalanced(single_label([1]), ["a"], samples=3).draw(0, 0).tolist() == [0, 0, 0]


def test_balancing_says_which_classes_have_no_image(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ClassBalanced(single_label(), NAMES)
    assert "leaves out 1 classes without a training image: dog" in caplog.text


def test_with_several_labels_a_class_is_drawn_from_where_it_is_present(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        order = ClassBalanced(MULTI_LABEL, ["a", "b", "c"], samples=12)
    assert "never draws 2 of 6 images" in caplog.text
    assert "1 classes without a training image: c" in caplog.text
    drawn = Counter(order.draw(0, 0).tolist())
    assert drawn == Counter({0: 2, 5: 2, 1: 2 + 3, 2: 3})  # six for a, among three images; six for b, among two


def test_balancing_without_any_label_is_refused() -> None:
    with pytest.raises(ValueError, match="no training image has a label"):
        ClassBalanced(index_of(torch.zeros(3, 2)), ["a", "b"])


def chi_square(drawn: Tensor, weights: Tensor) -> float:
    """Sum over the images that have a weight of (seen - expected)^2 / expected; about their number, less one."""
    expected = weights / weights.sum() * len(drawn)
    kept = expected > 0
    return float(((drawn.bincount(minlength=len(weights)) - expected)[kept] ** 2 / expected[kept]).sum())


def test_weighted_draws_are_distributed_as_torchs() -> None:
    index = single_label()
    counts = torch.tensor(SIZES)
    weights = 1 / counts[index.targets].double()
    torch.manual_seed(0)
    torchs = torch.tensor(list(WeightedRandomSampler(weights.tolist(), 100_000)))
    ours = Weighted(index, NAMES, power=1.0, samples=100_000).draw(0, 0)
    for drawn in (torchs, ours):
        assert 40 < chi_square(drawn, weights) < 120  # of 75 images: 74, give or take 12
    assert chi_square(ours, torch.ones(75)) > 10_000


def test_weighted_draws_are_independent_of_each_other() -> None:
    """Of pairs of neighbours over two images of equal weight, each kind is a quarter."""
    draws = Weighted(single_label([2]), ["a"], power=0.0, samples=40_000).draw(0, 0)
    pairs = (draws[:-1] * 2 + draws[1:]).bincount(minlength=4)
    assert all(9_600 < count < 10_400 for count in pairs.tolist())


@pytest.mark.parametrize(
    ("power", "expected"), [(0.0, [40, 9, 1, 0, 25]), (0.5, [6.32, 3, 1, 0, 5]), (1, [1, 1, 1, 0, 1])]
)
def test_the_power_of_frequency_sets_how_often_a_class_is_drawn(power: float, expected: list[float]) -> None:
    index = single_label()
    drawn = index.targets[Weighted(index, NAMES, power=power, samples=50_000).draw(0, 0)]
    assert chi_square(drawn, torch.tensor(expected)) < 15


def test_class_weights_count_by_name_and_1_for_those_not_named() -> None:
    index = single_label()
    drawn = index.targets[Weighted(index, NAMES, class_weights={"ant": 0, "cat": 25}, samples=50_000).draw(0, 0)]
    assert chi_square(drawn, torch.tensor([0, 9, 25, 0, 25.0])) < 15
    assert not (drawn == 0).any()


def test_a_class_called_by_a_number_may_be_typed_as_one() -> None:
    drawn = Weighted(single_label([3, 3]), ["0", "1"], class_weights={1: 0.0}, samples=100).draw(0, 0)  # type: ignore[dict-item]
    assert set(single_label([3, 3]).targets[drawn].tolist()) == {0}


def test_with_several_labels_the_heaviest_class_present_counts() -> None:
    drawn = Weighted(MULTI_LABEL, ["a", "b", "c"], class_weights={"a": 3, "b": 0.5}, samples=50_000).draw(0, 0)
    assert chi_square(drawn, torch.tensor([3, 3, 0.5, 1, 1, 3])) < 20
    by_frequency = Weighted(MULTI_LABEL, ["a", "b", "c"], power=1, samples=50_000).draw(0, 0)  # three of a, two of b
    assert chi_square(by_frequency, torch.tensor([1, 1.5, 1.5, 1, 1, 1])) < 20


def test_weights_by_class_and_by_image_multiply(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("path,weight\n" + "".join(f"{n}.png,{n}\n" for n in range(6)))
    index = single_label([3, 3])
    order = Weighted(index, ["a", "b"], class_weights={"a": 2}, file=str(tmp_path / "w.csv"), samples=50_000)
    expected = torch.arange(6) * torch.where(index.targets == 0, 2.0, 1.0)
    assert chi_square(order.draw(0, 0), expected) < 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "weigh by what"),
        ({"class_weights": {"cow": 1}}, "no class 'cow' in the data. There are ant, bee"),
        ({"class_weights": {"cat": -1}}, "cat: -1: a weight is a number from 0 on"),
        ({"class_weights": {"cat": float("nan")}}, "cat: nan"),
        ({"class_weights": dict.fromkeys(NAMES, 0)}, "sum to 0.0: nothing can be drawn"),
        ({"file": "/not/there.csv"}, "there is no such file"),
    ],
)
def test_weights_that_cannot_be_are_refused(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Weighted(single_label(), NAMES, **options)


@pytest.mark.parametrize(("size", "repeats"), [(75, 3), (10, 4), (7, 1), (2, 5), (1, 3)])
def test_repeated_augmentation_is_a_loop_over_shuffled_images(size: int, repeats: int) -> None:
    expected: list[int] = []
    for image in Shuffled(range(size)).draw(0, 2).tolist():
        for _ in range(repeats):
            if len(expected) < size:
                expected.append(image)
    assert RepeatedAugmentation(range(size), repeats=repeats).draw(0, 2).tolist() == expected
