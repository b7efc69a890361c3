"""Groups of images: where they come from, and that no split divides one; compared with scikit-learn and plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold

from fovea.data.division.division import Division, divide
from fovea.data.division.image_groups import group_numbers, shared_groups, with_groups
from fovea.data.division.split import split_off
from fovea.data.division.stratification import group_parts
from fovea.data.index import Index, Splits, concatenate
from fovea.data.loading.datamodule import with_group_column
from fovea.data.sources.folder import read_folder
from fovea.data.sources.multilabel_csv import read_multilabel_csv
from fovea.data.sources.singlelabel_csv import read_csv
from fovea.data.string_array import StringArray


def grouped(seed: int, several: bool = False, images: int = 600, groups: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Group numbers and targets of images whose groups have different sizes and classes."""
    random = np.random.default_rng(seed)
    sizes = random.dirichlet(np.ones(groups))
    of_image = torch.from_numpy(np.unique(random.choice(groups, images, p=sizes), return_inverse=True)[1])
    likely = random.dirichlet(np.full(4, 0.5), groups)
    labels = torch.tensor([random.choice(4, p=likely[g]) for g in of_image.tolist()])
    return of_image, torch.nn.functional.one_hot(labels).char() if several else labels


def spread(parts: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of the standard deviation of their shares in the folds, as scikit-learn minimizes it."""
    counts = np.array([np.bincount(labels[parts == part], minlength=4) for part in range(5)])
    return float((counts / counts.sum(0)).std(0).mean())


def sklearns(groups: torch.Tensor, labels: torch.Tensor, seed: int) -> np.ndarray:
    parts = np.empty(len(labels), int)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups)
    for fold, (_, test) in enumerate(folds):
        parts[test] = fold
    return parts


@pytest.mark.parametrize("several", [False, True])
def test_no_group_is_divided_and_the_parts_have_their_shares(several: bool) -> None:
    groups, targets = grouped(0, several)
    parts = group_parts(groups, targets, (0.7, 0.2, 0.1), seed=0)
    for group in groups.unique():
        assert len(parts[groups == group].unique()) == 1
    assert parts.bincount().tolist() == pytest.approx([420, 120, 60], abs=6)
    labels = targets.argmax(1) if several else targets
    for label, count in enumerate(labels.bincount().tolist()):
        shares = parts[labels == label].bincount(minlength=3) / count
        assert shares.tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.06)
    assert not torch.equal(parts, group_parts(groups, targets, (0.7, 0.2, 0.1), seed=1))


def test_folds_of_groups_are_as_even_as_those_of_scikit_learn() -> None:
    ours, theirs = [], []
    for seed in range(6):
        groups, labels = grouped(seed)
        ours.append(spread(group_parts(groups, labels, [0.2] * 5, seed).numpy(), labels.numpy()))
        theirs.append(spread(sklearns(groups, labels, seed), labels.numpy()))
    assert np.mean(ours) < 1.1 * np.mean(theirs)


def test_each_group_goes_where_the_sum_of_squared_errors_grows_least() -> None:
    """The formula, written out, of equally large groups in the order that they have in fact."""
    groups, labels, shares = torch.arange(20).repeat_interleave(3), torch.arange(60) % 4, (0.6, 0.4)
    parts = group_parts(groups, labels, shares, seed=2)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2)).tolist()

    def error(assigned: dict[int, int]) -> float:
        total = 0.0
        for k in [*range(4), None]:
            of_class = [n for n in range(60) if k is None or labels[n] == k]
            for part, share in enumerate(shares):
                x = sum(assigned.get(int(groups[n])) == part for n in of_class)
                total += (x - share * len(of_class)) ** 2 / (share * len(of_class) ** 2)
        return total

    assigned: dict[int, int] = {}
    for group in order:
        errors = [round(error(assigned | {group: part}), 9) for part in (0, 1)]
        assigned[group] = errors.index(min(errors))
    assert parts.tolist() == [assigned[group] for group in groups.tolist()]


def index(paths: list[str], groups: list[str] | None = None) -> Index:
    names = None if groups is None else StringArray.of(groups)
    return Index(paths, torch.arange(len(paths)) % 2, groups=names)


def test_an_index_keeps_its_groups_when_images_are_taken_or_joined() -> None:
    both = concatenate([index(["a", "b"], ["x", "y"]), index(["c"], ["x"])])
    assert list(both.take(torch.tensor([2, 1])).groups or ()) == ["x", "y"]
    assert group_numbers(both.groups).tolist() == [0, 1, 0]
    assert list(both.with_targets(torch.zeros(3)).groups or ()) == ["x", "y", "x"]


def test_a_pattern_takes_groups_from_the_paths_below_the_root() -> None:
    paths = [f"/photos3/{cls}/p{patient}_{n}.png" for patient in range(30) for cls in "ab" for n in range(2)]
    data = with_groups(Splits("multiclass", ("a", "b"), index(paths)), r"p(\d+)_", "/photos3")
    assert data.train is not None
    assert list(data.train.groups or ()) == [str(patient) for patient in range(30) for _ in range(4)]
    options = Division(val_fraction=0.2, test_fraction=0.2, group_pattern=r"p(\d+)_")
    splits = divide(Splits("multiclass", ("a", "b"), index(paths)), options, "/photos3").splits
    assert {name: len(part) for name, part in splits.items()} == {"train": 72, "val": 24, "test": 24}
    patients = [{path.split("/p")[-1].split("_")[0] for path in part.paths} for part in splits.values()]
    assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])


def test_a_path_without_a_group_is_an_error_with_the_count_and_an_example() -> None:
    data = Splits("multiclass", ("a", "b"), index(["/d/p1_0.png", "/d/q.png", "/d/r.png"]))
    with pytest.raises(ValueError, match=r"2 of 3 paths have no match, such as q.png"):
        divide(data, Division(0.5, group_pattern=r"(p\d+)_"), "/d")


def test_groups_in_two_given_splits_are_a_warning_with_counts() -> None:
    train, val = index(list("abcd"), ["1", "1", "2", "3"]), index(list("ef"), ["1", "4"])
    expected = "1 groups have images in train and in val (2 and 1 images), such as '1': figures of val may be too good"
    assert shared_groups({"train": train, "val": val}) == [expected]
    assert divide(Splits("multiclass", ("a", "b"), train, val), Division()).warnings == [expected]
    assert shared_groups({"train": train, "val": index(list("ef"), ["4", "4"])}) == []
    assert shared_groups({"val": val, "test": val}) == []


def test_a_fraction_that_no_group_can_fill_is_an_error() -> None:
    one = index(list("abcdef"), ["1"] * 6)
    with pytest.raises(ValueError, match="of 1 groups, which are not divided"):
        split_off(one, 0.5, seed=0)


def test_tables_read_the_groups_from_a_column(tmp_path: Path) -> None:
    for name in "wxyz":
        (tmp_path / f"{name}.png").touch()
    rows = ["path,split,label,Patient", "w.png,train,a,007", "x.png,train,b,007", "y.png,train,a,1e3", "z.png,val,b,1"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = with_group_column(read_csv, "patient")(tmp_path)
    assert list(data.train.groups or ()) == ["007", "007", "1e3"]
    assert list(data.val.groups or ()) == ["1"]
    assert read_csv(tmp_path).train.groups is None
    (tmp_path / "labels.csv").write_text("path,a,b,patient\nw.png,1,0,p\nx.png,0,1,q\ny.png,1,1,\n")
    with pytest.raises(ValueError, match=r"line 4: column 'patient' \(data.group_column\) is empty"):
        read_multilabel_csv(tmp_path, group_column="patient")
    (tmp_path / "labels.csv").write_text("path,a,b,patient\nw.png,1,0,p\nx.png,0,1,q\n")
    several = read_multilabel_csv(tmp_path, group_column="patient")
    assert several.class_names == ("a", "b")
    assert list(several.train.groups or ()) == ["p", "q"]
    with pytest.raises(ValueError, match=r"no column 'video'.*\n.*Set data.group_column=<name>"):
        read_csv(tmp_path, label_column="a", group_column="video")


def test_a_column_of_a_source_that_is_no_table_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"data.group_column=patient: only tables have columns"):
        with_group_column(read_folder, "patient")
