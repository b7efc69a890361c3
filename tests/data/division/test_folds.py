"""Folds of a cross-validation, compared with plain counting and with a plain loop of iterative stratification."""

from pathlib import Path

import pytest
import torch

from fovea.data.division.division import Division, divide
from fovea.data.division.folds import fold_numbers
from fovea.data.division.stratification import multilabel_parts
from fovea.data.index import Index, Splits
from fovea.data.string_array import StringArray

COUNTS = [200, 3, 2, 1, 57, 0, 31]
LABELS = torch.tensor([c for c, count in enumerate(COUNTS) for _ in range(count)])
SEVERAL = (
    torch.rand(500, 6, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.5, 0.3, 0.1, 0.05, 0.02, 0])
).char()


def of(targets: torch.Tensor, first: int = 0, groups: list[str] | None = None) -> Index:
    names = groups and StringArray.of(groups)
    return Index([f"{first + n}.png" for n in range(len(targets))], targets, groups=names or None)


def test_each_class_and_the_folds_themselves_differ_by_at_most_one_image() -> None:
    numbers = fold_numbers(of(LABELS), 5, seed=0)
    sizes = numbers.bincount(minlength=5)
    assert sizes.sum() == len(LABELS)
    assert sizes.max() - sizes.min() <= 1
    for label in range(7):
        counts = numbers[label == LABELS].bincount(minlength=5)
        assert counts.max() - counts.min() <= 1


def test_of_several_labels_each_class_is_divided_evenly() -> None:
    numbers = fold_numbers(of(SEVERAL), 5, seed=0)
    assert numbers.bincount().tolist() == pytest.approx([100] * 5, abs=2)
    for k in range(6):
        counts = numbers[SEVERAL[:, k] == 1].bincount(minlength=5)
        assert counts.max() - counts.min() <= 2


def test_iterative_stratification_is_that_of_the_paper_in_a_plain_loop() -> None:
    """Without ties: the shares are such that no two parts ever lack equally."""
    shares, order = (0.53, 0.31, 0.16), torch.randperm(120, generator=torch.Generator().manual_seed(4)).tolist()
    labels = SEVERAL[:120]
    lacks_all = [share * 120 for share in shares]
    lacks = [[share * int((labels[:, k] == 1).sum()) for k in range(6)] for share in shares]
    parts: dict[int, int] = {}
    while left := {k: n for k in range(6) if (n := sum(labels[i, k] == 1 for i in order if i not in parts))}:
        rarest = min(left, key=lambda k: (int(left[k]), k))
        for i in [i for i in order if i not in parts and labels[i, rarest] == 1]:
            part = max(range(3), key=lambda j: (lacks[j][rarest], lacks_all[j]))
            parts[i] = part
            lacks_all[part] -= 1
            for k in range(6):
                lacks[part][k] -= int(labels[i, k] == 1)
    for i in [i for i in order if i not in parts]:
        part = max(range(3), key=lambda j: lacks_all[j])
        parts[i] = part
        lacks_all[part] -= 1
    assert multilabel_parts(labels, shares, seed=4).tolist() == [parts[i] for i in range(120)]


@pytest.mark.parametrize("targets", [LABELS, SEVERAL])
def test_the_folds_depend_on_the_split_seed_alone(targets: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = fold_numbers(of(targets), 5, seed=0)
    torch.manual_seed(2)
    assert torch.equal(fold_numbers(of(targets), 5, seed=0), first)
    assert not torch.equal(fold_numbers(of(targets), 5, seed=1), first)


@pytest.mark.parametrize("several", [False, True])
def test_the_tested_folds_are_all_images_of_train_and_val_and_the_own_test_is_left_out(several: bool) -> None:
    targets = SEVERAL if several else torch.arange(500) % 3
    names = tuple("abcdef") if several else tuple("abc")
    data = Splits(
        "multilabel" if several else "multiclass",
        names,
        of(targets[:300]),
        of(targets[300:400], 300),
        of(targets[400:], 400),
    )
    tested = list[str]()
    for fold in range(4):
        divided = divide(data, Division(val_fraction=0.1, folds=4, fold=fold))
        paths = {name: set(index.paths) for name, index in divided.splits.items()}
        assert sum(map(len, paths.values())) == 400 == len(set().union(*paths.values()))
        assert len(paths["val"]) == pytest.approx(30, abs=3)
        assert "the 100 images of the data's own test split are left out" in divided.texts[0]
        tested += divided.splits["test"].paths
    assert sorted(tested) == sorted(f"{n}.png" for n in range(400))


def test_no_group_is_in_two_folds() -> None:
    groups = [str(n % 23) for n in range(len(LABELS))]
    numbers = fold_numbers(of(LABELS, groups=groups), 5, seed=0).tolist()
    assert len(set(zip(groups, numbers, strict=True))) == 23
    with pytest.raises(ValueError, match="only 3 groups to divide"):
        fold_numbers(of(LABELS, groups=[str(n % 3) for n in range(len(LABELS))]), 5, seed=0)
    with pytest.raises(ValueError, match="only 2 images to divide"):
        fold_numbers(of(LABELS[:2]), 5, seed=0)


@pytest.mark.parametrize("limit", [None, 3])
def test_groups_of_several_labels_are_in_one_split_of_each_fold_and_are_tested_once(limit: int | None) -> None:
    groups = [f"g{n % 41}" for n in range(500)]  # each has images in train and in val of the source
    train, val = of(SEVERAL[:400], 0, groups[:400]), of(SEVERAL[400:], 400, groups[400:])
    tested = list[str]()
    for fold in range(4):
        data = Splits("multilabel", tuple("abcdef"), train, val)
        splits = divide(data, Division(val_fraction=0.1, folds=4, fold=fold, limit_per_class=limit)).splits
        found = [set(index.groups or ()) for index in splits.values()]
        assert all(found)
        assert sum(map(len, found)) == len(set().union(*found))
        shares = (splits["test"].targets == 1).sum(0) / (SEVERAL == 1).sum(0)
        assert shares[:3].tolist() == pytest.approx([0.25] * 3, abs=0.06)
        tested += splits["test"].paths
    assert sorted(tested) == sorted([*train.paths, *val.paths])


def test_classes_with_fewer_images_than_folds_are_named() -> None:
    data = Splits("multiclass", tuple("abcdefg"), of(LABELS))
    warnings = divide(data, Division(val_fraction=0.2, folds=5, fold=0)).warnings
    assert warnings == ["data.folds=5: 4 classes have fewer images, so folds lack them: b (3), c (2), d (1), f (0)"]


def test_folds_without_a_validation_share_are_an_error_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="data.val_fraction=0.1"):
        divide(Splits("multiclass", ("a", "b"), of(LABELS % 2), of(LABELS % 2, 294)), Division(folds=5, fold=0))


def test_corrections_of_images_that_the_folds_leave_out_are_accepted(tmp_path: Path) -> None:
    data = Splits("multiclass", ("a", "b"), of(LABELS % 2), None, of(LABELS % 2, 1000))
    (tmp_path / "c.csv").write_text("path,correction\n1000.png,b\n0.png,drop\n")
    options = Division(val_fraction=0.1, folds=5, fold=0, corrections=str(tmp_path / "c.csv"))
    splits = divide(data, options).splits
    assert set(splits) == {"train", "val", "test"}
    assert sum(map(len, splits.values())) == len(LABELS) - 1


def test_the_val_split_is_tested_and_another_one_is_split_off_train() -> None:
    val = of(LABELS % 2, 1000)
    splits = divide(
        Splits("multiclass", ("a", "b"), of(LABELS % 2), val), Division(val_fraction=0.1, val_as_test=True)
    ).splits
    assert splits["test"] is val
    assert len(splits["val"]) == 29
    assert len(splits["train"]) == len(LABELS) - 29
    assert not set(splits["val"].paths) & set(splits["train"].paths)
    with pytest.raises(ValueError, match="no val split"):
        divide(Splits("multiclass", ("a", "b"), of(LABELS % 2)), Division(val_fraction=0.1, val_as_test=True))
    with pytest.raises(ValueError, match="a test split of its own, of 294 images"):
        divide(
            Splits("multiclass", ("a", "b"), of(LABELS % 2), val, of(LABELS % 2, 5000)),
            Division(val_fraction=0.1, val_as_test=True),
        )
    with pytest.raises(ValueError, match="data.val_fraction=0.1"):
        divide(Splits("multiclass", ("a", "b"), of(LABELS % 2), val), Division(val_as_test=True))
