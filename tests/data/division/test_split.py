"""Splitting off images, compared with plain counting."""

import math
from collections import Counter

import pytest
import torch

from fovea.data.division.split import class_quotas, split_off
from fovea.data.index import Index


def single_label(labels: list[int]) -> Index:
    return Index([f"{n}.png" for n in range(len(labels))], torch.tensor(labels))


def multi_label(count: int) -> Index:
    generator = torch.Generator().manual_seed(5)
    return Index([f"{n}.png" for n in range(count)], torch.randint(-1, 2, (count, 4), generator=generator).float())


UNEVEN = single_label([c for c, count in enumerate([200, 3, 2, 1, 57, 0, 31]) for _ in range(count)])


@pytest.mark.parametrize("index", [UNEVEN, multi_label(131)])
@pytest.mark.parametrize("fraction", [0.05, 0.29, 0.5, 0.77])
def test_every_image_is_in_exactly_one_part_with_its_target_and_in_order(index: Index, fraction: float) -> None:
    rest, taken = split_off(index, fraction, seed=3)
    assert len(taken) == pytest.approx(len(index) * fraction, abs=0.5 if index.targets.ndim == 1 else 3)
    number = {path: n for n, path in enumerate(index.paths)}
    places = [[number[path] for path in side.paths] for side in (rest, taken)]
    assert sorted(places[0] + places[1]) == list(range(len(index)))
    for side, numbers in zip((rest, taken), places, strict=True):
        assert numbers == sorted(numbers)
        assert torch.equal(side.targets, index.targets[numbers])


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.29, 0.5])
def test_each_class_gives_its_fraction_rounded_up_or_down(fraction: float) -> None:
    given = Counter(split_off(UNEVEN, fraction, seed=0)[1].targets.tolist())
    for label, count in Counter(UNEVEN.targets.tolist()).items():
        assert given[label] in {math.floor(count * fraction), math.ceil(count * fraction)}


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.77, 0.95])
def test_of_several_labels_each_class_gives_its_fraction_too(fraction: float) -> None:
    index = multi_label(1000)
    taken = split_off(index, fraction, seed=0)[1]
    given, all_images = ((part.targets == 1).sum(0) for part in (taken, index))
    assert given.tolist() == pytest.approx((all_images * fraction).tolist(), abs=2)


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.77, 0.95])
def test_every_class_keeps_an_image(fraction: float) -> None:
    kept = Counter(split_off(UNEVEN, fraction, seed=0)[0].targets.tolist())
    assert all(kept[label] >= 1 for label in set(UNEVEN.targets.tolist()))


def test_images_still_missing_come_from_the_classes_with_the_largest_remainders() -> None:
    assert class_quotas([10, 14, 18, 15], 0.25) == [
        3,
        3,
        4,
        4,
    ]  # shares 2.5 3.5 4.5 3.75 of 14: the floors give 12, the last two go to 3.75 and 2.5
    assert class_quotas([4, 4, 4], 0.5) == [2, 2, 2]
    assert class_quotas([1, 1, 9], 0.5) == [0, 0, 6]  # round(5.5) is 6; a class's only image stays
    assert class_quotas([2, 2], 0.95) == [1, 1]


def test_the_split_depends_on_the_seed_alone() -> None:
    for index in (UNEVEN, multi_label(131)):
        torch.manual_seed(1)
        first = split_off(index, 0.3, seed=7)[1].paths
        torch.manual_seed(2)
        assert split_off(index, 0.3, seed=7)[1].paths == first
        assert split_off(index, 0.3, seed=8)[1].paths != first


def test_a_class_is_sampled_uniformly_over_the_index() -> None:
    index = single_label([0] * 1000 + [1] * 1000)
    taken = split_off(index, 0.2, seed=0)[1]
    places = torch.tensor([int(path.removesuffix(".png")) for path in taken.paths])
    for start in (0, 1000):
        own = places[(places >= start) & (places < start + 1000)] - start
        assert len(own) == 200
        assert abs(own.float().mean() - 500) < 3 * 289 / math.sqrt(200)  # a uniform draw's mean, three sigma


@pytest.mark.parametrize("fraction", [-0.1, 0.0, 1.0, 10.0])
def test_a_fraction_outside_0_to_1_is_an_error(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 1, not {fraction}"):
        split_off(UNEVEN, fraction, seed=0)


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="takes 0 of 4 images"):
        split_off(single_label([0, 0, 1, 1]), 0.05, seed=0)
    with pytest.raises(ValueError, match="takes 4 of 4 images"):
        split_off(multi_label(4), 0.99, seed=0)
    with pytest.raises(ValueError, match="last image is never taken"):
        split_off(single_label([0, 1, 2]), 0.5, seed=0)
