"""Carving out a split, against plain counting."""

import math
from collections import Counter

import pytest
import torch

from fovea.data.index import Index
from fovea.data.split import seats, split_off


def single_label(labels: list[int]) -> Index:
    return Index([f"{n}.png" for n in range(len(labels))], torch.tensor(labels))


def multi_label(count: int) -> Index:
    generator = torch.Generator().manual_seed(5)
    return Index([f"{n}.png" for n in range(count)], torch.randint(-1, 2, (count, 4), generator=generator).float())


UNEVEN = single_label([c for c, count in enumerate([200, 3, 2, 1, 57, 0, 31]) for _ in range(count)])


@pytest.mark.parametrize("index", [UNEVEN, multi_label(131)])
@pytest.mark.parametrize("fraction", [0.05, 0.29, 0.5, 0.77])
def test_every_image_is_on_one_side_with_its_target_and_in_order(index: Index, fraction: float) -> None:
    rest, taken = split_off(index, fraction, seed=3)
    assert len(taken) == round(len(index) * fraction)
    number = {path: n for n, path in enumerate(index.paths)}
    places = [[number[path] for path in side.paths] for side in (rest, taken)]
    assert sorted(places[0] + places[1]) == list(range(len(index)))
    for side, numbers in zip((rest, taken), places, strict=True):
        assert numbers == sorted(numbers)
        assert torch.equal(side.targets, index.targets[numbers])


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.29, 0.5])
def test_each_class_gives_its_share_to_the_next_image(fraction: float) -> None:
    given = Counter(split_off(UNEVEN, fraction, seed=0)[1].targets.tolist())
    for label, count in Counter(UNEVEN.targets.tolist()).items():
        assert given[label] in {math.floor(count * fraction), math.ceil(count * fraction)}


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.77, 0.95])
def test_every_class_keeps_an_image(fraction: float) -> None:
    kept = Counter(split_off(UNEVEN, fraction, seed=0)[0].targets.tolist())
    assert all(kept[label] >= 1 for label in set(UNEVEN.targets.tolist()))


def test_the_seats_left_over_go_to_the_largest_remainders() -> None:
    assert seats([10, 14, 18, 15], 0.25) == [
        3,
        3,
        4,
        4,
    ]  # 2.5 3.5 4.5 3.75, of 14: 12 whole, one by 3.75, by 2.5
    assert seats([4, 4, 4], 0.5) == [2, 2, 2]
    assert seats([1, 1, 9], 0.5) == [0, 0, 6]  # round(5.5) is 6; a class's only image stays
    assert seats([2, 2], 0.95) == [1, 1]


def test_the_split_depends_on_the_seed_alone() -> None:
    for index in (UNEVEN, multi_label(131)):
        torch.manual_seed(1)
        first = split_off(index, 0.3, seed=7)[1].paths
        torch.manual_seed(2)
        assert split_off(index, 0.3, seed=7)[1].paths == first
        assert split_off(index, 0.3, seed=8)[1].paths != first


def test_a_class_is_drawn_from_all_over() -> None:
    index = single_label([0] * 1000 + [1] * 1000)
    taken = split_off(index, 0.2, seed=0)[1]
    places = torch.tensor([int(path.removesuffix(".png")) for path in taken.paths])
    for start in (0, 1000):
        own = places[(places >= start) & (places < start + 1000)] - start
        assert len(own) == 200
        assert abs(own.float().mean() - 500) < 3 * 289 / math.sqrt(200)  # a uniform draw's mean, three sigma


@pytest.mark.parametrize("fraction", [-0.1, 0.0, 1.0, 10.0])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 1, not {fraction}"):
        split_off(UNEVEN, fraction, seed=0)


def test_a_split_without_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 0 of 4 images"):
        split_off(single_label([0, 0, 1, 1]), 0.05, seed=0)
    with pytest.raises(ValueError, match="takes 4 of 4 images"):
        split_off(multi_label(4), 0.95, seed=0)
    with pytest.raises(ValueError, match="last image is never taken"):
        split_off(single_label([0, 1, 2]), 0.5, seed=0)
