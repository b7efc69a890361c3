"""Limiting the training images of each class, compared with plain counting."""

from collections import Counter

import pytest
import torch

from fovea.data.division.division import Division, divide
from fovea.data.division.few_images import few_positions, limit_per_class
from fovea.data.index import Index, Splits

COUNTS = [40, 7, 1, 0, 90]
LABELS = torch.tensor([c for c, count in enumerate(COUNTS) for _ in range(count)])
SEVERAL = torch.randint(-1, 2, (150, 4), generator=torch.Generator().manual_seed(1), dtype=torch.int8)


@pytest.mark.parametrize("limit", [1, 5, 50])
def test_each_class_keeps_the_limit_or_all_it_has(limit: int) -> None:
    kept = few_positions(LABELS, 5, limit, seed=0)
    assert kept.tolist() == sorted(set(kept.tolist()))
    counts = Counter(LABELS[kept].tolist())
    assert [counts[c] for c in range(5)] == [min(limit, count) for count in COUNTS]


def test_of_several_labels_each_class_keeps_its_first_images_in_the_order_of_the_seed() -> None:
    order = torch.randperm(150, generator=torch.Generator().manual_seed(3)).tolist()
    expected = set()
    for k in range(4):
        expected |= set([n for n in order if SEVERAL[n, k] == 1][:5])
    expected |= set([n for n in order if 1 not in SEVERAL[n].tolist()][:5])
    assert few_positions(SEVERAL, 4, 5, seed=3).tolist() == sorted(expected)
    present = (SEVERAL[few_positions(SEVERAL, 4, 5, seed=3)] == 1).sum(0)
    assert (present >= 5).all()


@pytest.mark.parametrize("targets", [LABELS, SEVERAL])
def test_the_images_of_a_lower_limit_are_among_those_of_a_higher_one(targets: torch.Tensor) -> None:
    sets = [set(few_positions(targets, 5 if targets.ndim == 1 else 4, limit, 7).tolist()) for limit in (1, 2, 5, 10)]
    assert sets[0] < sets[1] < sets[2] < sets[3]
    other = few_positions(targets, 5 if targets.ndim == 1 else 4, 5, 8).tolist()
    assert set(other) != sets[2]


def test_the_classes_that_have_fewer_images_are_named_in_a_warning() -> None:
    index = Index([f"{n}.png" for n in range(len(LABELS))], LABELS)
    limited = limit_per_class(index, list("abcde"), 10, seed=0)
    assert limited.text == "data.limit_per_class=10: 28 of 138 training images are used"
    assert limited.warnings == [
        "data.limit_per_class=10: 3 of 5 classes have fewer training images: b (7), c (1), d (0)"
    ]
    assert limit_per_class(index.take(torch.arange(40)), ["a"], 10, seed=0).warnings == []


def test_validation_and_test_are_those_of_the_whole_data() -> None:
    index = Index([f"{n}.png" for n in range(100)], torch.arange(100) % 2)
    whole, few = (
        divide(Splits("multiclass", ("a", "b"), index), Division(0.2, 0.2, limit_per_class=limit)).splits
        for limit in (None, 3)
    )
    assert few["val"].paths == whole["val"].paths
    assert few["test"].paths == whole["test"].paths
    assert set(few["train"].paths) < set(whole["train"].paths)
    assert few["train"].targets.tolist().count(0) == few["train"].targets.tolist().count(1) == 3
