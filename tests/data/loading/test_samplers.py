import logging
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

from fovea.data.index import Index
from fovea.data.loading.samplers import ClassBalanced, RepeatedAugmentation, Sampler, Shuffled, Weighted
from fovea.data.string_array import StringArray

SIZES = [40, 9, 1, 0, 25]  # images of each class; one has none
NAMES = ["ant", "bee", "cat", "dog", "eel"]


def index_of(targets: Tensor) -> Index:
    return Index(StringArray.of([f"/data/{n}.png" for n in range(len(targets))], "/data/"), targets)


def single_label(sizes: list[int] = SIZES) -> Index:
    """Return an index with the classes in mixed order."""
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return index_of(targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))])


MULTI_LABEL = index_of(torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, -1], [-1, 0, -1], [0, 0, 0], [1, 0, 0]]))


@pytest.fixture
def samplers() -> list[Sampler]:
    index = single_label()
    return [
        Shuffled(index),
        RepeatedAugmentation(index),
        ClassBalanced(index, NAMES),
        Weighted(index, NAMES, power=1.0),
    ]


def test_the_draws_depend_on_seed_and_epoch_and_match_the_length(samplers: list[Sampler]) -> None:
    for sampler in samplers:
        first = sampler.draw(seed=3, epoch=4)
        assert first.tolist() == sampler.draw(seed=3, epoch=4).tolist()
        assert first.tolist() != sampler.draw(seed=3, epoch=5).tolist()
        assert first.tolist() != sampler.draw(seed=4, epoch=4).tolist()
        assert len(first) == len(sampler) == 75
        assert first.dtype in (torch.int32, torch.int64)


@pytest.mark.parametrize("samples", [1, 3, 7, 75, 102, 1000])
def test_classes_are_drawn_equally_often_up_to_one_draw(samples: int) -> None:
    index = single_label()
    sampler = ClassBalanced(index, NAMES, samples)
    total: Counter[int] = Counter()
    for epoch in range(9):
        by_class = Counter(index.targets[sampler.draw(0, epoch)].tolist())
        assert sum(by_class.values()) == samples
        assert all(by_class[k] - samples // 4 in (0, 1) for k in (0, 1, 2, 4))
        total += by_class
        assert max(total.values()) - min(total[k] for k in (0, 1, 2, 4)) <= 1


@pytest.mark.parametrize("samples", [7, 75, 102, 1000])
def test_no_image_repeats_before_all_images_of_its_class_were_drawn(samples: int) -> None:
    index = single_label()
    sampler = ClassBalanced(index, NAMES, samples)
    for epoch in range(5):
        drawn = Counter(sampler.draw(0, epoch).tolist())
        for k in (0, 1, 2, 4):
            times = [drawn[n] for n in range(75) if index.targets[n] == k]
            assert max(times) - min(times) <= 1


def test_a_large_class_continues_with_its_other_images_and_is_then_shuffled_again() -> None:
    index = single_label([12, 3])
    sampler = ClassBalanced(index, ["a", "b"], samples=8)  # four of the twelve images per epoch

    def draws_of_large_class(epoch: int) -> list[int]:
        return sorted(n for n in sampler.draw(0, epoch).tolist() if index.targets[n] == 0)

    rounds = [[draws_of_large_class(epoch) for epoch in range(first, first + 3)] for first in (0, 3, 6)]
    all_images = [n for n in range(15) if index.targets[n] == 0]
    assert [sorted(chain(*parts)) for parts in rounds] == [all_images] * 3
    assert rounds[0] != rounds[1] != rounds[2]


def test_within_an_epoch_the_classes_are_mixed() -> None:
    index = single_label([500, 500])
    ones = index.targets[ClassBalanced(index, ["a", "b"]).draw(0, 0)]
    for part in ones.split(100):
        assert 25 < part.sum() < 75


def test_balancing_a_single_class_is_shuffling_and_works_with_one_image() -> None:
    index = single_label([30])
    draws = ClassBalanced(index, ["a"]).draw(0, 0)
    assert draws.tolist() != sorted(draws.tolist()) == list(range(30))
    assert ClassBalanced(single_label([1]), ["a"], samples=3).draw(0, 0).tolist() == [0, 0, 0]


def test_balancing_warns_about_classes_without_images(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ClassBalanced(single_label(), NAMES)
    assert "leaves out 1 classes without a training image: dog" in caplog.text


def test_balancing_draws_multilabel_images_by_their_present_classes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sampler = ClassBalanced(MULTI_LABEL, ["a", "b", "c"], samples=12)
    assert "never draws 2 of 6 images" in caplog.text
    assert "1 classes without a training image: c" in caplog.text
    drawn = Counter(sampler.draw(0, 0).tolist())
    assert drawn == Counter({0: 2, 5: 2, 1: 2 + 3, 2: 3})  # six for a from three images, six for b from two


def test_balancing_without_any_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="no training image has a present label"):
        ClassBalanced(index_of(torch.zeros(3, 2)), ["a", "b"])


def chi_square(drawn: Tensor, weights: Tensor) -> float:
    """Sum (drawn - expected)^2 / expected over images with a weight; its mean is the number of these images minus 1."""
    expected = weights / weights.sum() * len(drawn)
    kept = expected > 0
    return float(((drawn.bincount(minlength=len(weights)) - expected)[kept] ** 2 / expected[kept]).sum())


def test_weighted_draws_have_the_distribution_of_torchs_sampler() -> None:
    index = single_label()
    counts = torch.tensor(SIZES)
    weights = 1 / counts[index.targets].double()
    torch.manual_seed(0)
    reference = torch.tensor(list(WeightedRandomSampler(weights.tolist(), 100_000)))
    own = Weighted(index, NAMES, power=1.0, samples=100_000).draw(0, 0)
    for drawn in (reference, own):
        assert 40 < chi_square(drawn, weights) < 120  # mean 74, standard deviation 12
    assert chi_square(own, torch.ones(75)) > 10_000


def test_weighted_draws_are_independent_of_each_other() -> None:
    """With two images of equal weight, each pair of consecutive draws has a probability of a quarter."""
    draws = Weighted(single_label([2]), ["a"], power=0.0, samples=40_000).draw(0, 0)
    pairs = (draws[:-1] * 2 + draws[1:]).bincount(minlength=4)
    assert all(9_600 < count < 10_400 for count in pairs.tolist())


@pytest.mark.parametrize(
    ("power", "expected"), [(0.0, [40, 9, 1, 0, 25]), (0.5, [6.32, 3, 1, 0, 5]), (1, [1, 1, 1, 0, 1])]
)
def test_power_sets_how_often_a_class_is_drawn(power: float, expected: list[float]) -> None:
    index = single_label()
    drawn = index.targets[Weighted(index, NAMES, power=power, samples=50_000).draw(0, 0)]
    assert chi_square(drawn, torch.tensor(expected)) < 15


def test_class_weights_are_given_by_name_and_default_to_1() -> None:
    index = single_label()
    drawn = index.targets[Weighted(index, NAMES, class_weights={"ant": 0, "cat": 25}, samples=50_000).draw(0, 0)]
    assert chi_square(drawn, torch.tensor([0, 9, 25, 0, 25.0])) < 15
    assert not (drawn == 0).any()


def test_a_class_named_by_a_number_may_be_given_as_a_number() -> None:
    drawn = Weighted(single_label([3, 3]), ["0", "1"], class_weights={1: 0.0}, samples=100).draw(0, 0)  # type: ignore[dict-item]
    assert set(single_label([3, 3]).targets[drawn].tolist()) == {0}


def test_a_multilabel_image_has_the_largest_weight_of_its_classes() -> None:
    drawn = Weighted(MULTI_LABEL, ["a", "b", "c"], class_weights={"a": 3, "b": 0.5}, samples=50_000).draw(0, 0)
    assert chi_square(drawn, torch.tensor([3, 3, 0.5, 1, 1, 3])) < 20
    by_frequency = Weighted(MULTI_LABEL, ["a", "b", "c"], power=1, samples=50_000).draw(0, 0)  # three of a, two of b
    assert chi_square(by_frequency, torch.tensor([1, 1.5, 1.5, 1, 1, 1])) < 20


def test_weights_by_class_and_by_image_multiply(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("path,weight\n" + "".join(f"{n}.png,{n}\n" for n in range(6)))
    index = single_label([3, 3])
    sampler = Weighted(index, ["a", "b"], class_weights={"a": 2}, file=str(tmp_path / "w.csv"), samples=50_000)
    expected = torch.arange(6) * torch.where(index.targets == 0, 2.0, 1.0)
    assert chi_square(sampler.draw(0, 0), expected) < 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "sampler=weighted needs weights"),
        ({"class_weights": {"cow": 1}}, "the data has no class 'cow'; its classes are ant, bee"),
        ({"class_weights": {"cat": -1}}, "cat: -1: a weight must be a number >= 0"),
        ({"class_weights": {"cat": float("nan")}}, "cat: nan"),
        ({"class_weights": dict.fromkeys(NAMES, 0)}, "sum to 0.0: give positive weights"),
        ({"file": "/not/there.csv"}, "there is no such file"),
    ],
)
def test_invalid_weights_are_an_error(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Weighted(single_label(), NAMES, **options)


@pytest.mark.parametrize(("size", "repeats"), [(75, 3), (10, 4), (7, 1), (2, 5), (1, 3)])
def test_repeated_augmentation_matches_a_loop_over_shuffled_images(size: int, repeats: int) -> None:
    expected: list[int] = []
    for image in Shuffled(range(size)).draw(0, 2).tolist():
        for _ in range(repeats):
            if len(expected) < size:
                expected.append(image)
    assert RepeatedAugmentation(range(size), repeats=repeats).draw(0, 2).tolist() == expected
