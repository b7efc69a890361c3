"""Training on the images that a list names, compared with sets of paths."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL

from fovea.data.division.division import Division, divide
from fovea.data.division.subset import take_subset
from fovea.data.index import Index, Splits

NAMES = ("chat noir", "dög")
TRAIN = [f"/d/train/{NAMES[n % 2]}/{n}.{'jpg' if n < 6 else 'png'}" for n in range(10)]
VAL, TEST = [f"/d/val/dög/{n}.jpg" for n in range(3)], [f"/d/test/dög/{n}.jpg" for n in range(3)]


def labelled(paths: list[str]) -> Index:
    return Index(paths, torch.tensor([NAMES.index(path.split("/")[3]) for path in paths]))


def data(val: bool = False) -> Splits:
    return Splits("multiclass", NAMES, labelled(TRAIN), labelled(VAL) if val else None, labelled(TEST))


def written(folder: Path, *lines: str) -> str:
    (folder / "list.txt").write_text("\n".join(lines), "utf-8")
    return str(folder / "list.txt")


@pytest.mark.parametrize(
    "lines",
    [
        ["train/dög/3.jpg", "", "  train/chat noir/0.jpg ", "train/chat noir/8.png"],
        [TRAIN[8], TRAIN[0], "./train/../train/dög/3.jpg"],
        ["train/chat noir/0.jpg 0", "train/dög/3.jpg 1", "train/chat noir/8.png 0"],
        ["train/chat noir/0", "train/dög/3", "train/chat noir/8"],
        ["train/chat noir/0 0", "train/dög/3\t1", "train/chat noir/8 0\r"],
    ],
)
def test_the_listed_training_images_are_kept_in_the_order_of_the_data(tmp_path: Path, lines: list[str]) -> None:
    subset = take_subset(data(val=True), written(tmp_path, *lines), "/d")
    assert subset.data.train is not None
    assert list(subset.data.train.paths) == [TRAIN[0], TRAIN[3], TRAIN[8]]
    assert subset.data.train.targets.tolist() == [0, 1, 0]
    assert sorted([*subset.data.train.paths, *subset.left_out.paths]) == sorted(TRAIN)
    assert subset.data.val is not None
    assert (len(subset.data.val), subset.warnings) == (3, [])
    assert subset.text.endswith("list.txt: 3 of 10 training images are used")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "list.txt: the file is empty: write the path of an image"),
        (
            ["train/dög/3.jpg", "train/dög/4.jpg", "x.jpg 1"],
            r"list.txt: 2 of 3 paths are not in the data: line 2: 'train/dög/4.jpg'; line 3: 'x.jpg 1'\n"
            r"Remove these lines, or write paths as in the data, such as /d/train/chat noir/0.jpg, or relative to /d$",
        ),
        (["train/dög/4.jpg 1"], "the number at the end of each line is read as its class index"),
        (
            ["train/dög/3.jpg", "val/dög/1.jpg"],
            r"list.txt: 1 of 2 paths are images of the val split.*: line 2: 'val/dög/1.jpg'",
        ),
        (["test/dög/1"], "1 of 1 paths are images of the test split"),
        (
            ["train/chat noir/0.jpg 0", "train/dög/3.jpg 0"],
            r"1 of 2 labels are not those of the data: line 2: 'train/dög/3.jpg' has the label 0; in the data it is "
            "class 1, dög",
        ),
    ],
)
def test_a_wrong_line_is_an_error_that_names_it(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        take_subset(data(val=True), written(tmp_path, *lines), "/d")


def test_a_name_without_ending_that_two_images_have_is_an_error(tmp_path: Path) -> None:
    twice = Splits("multiclass", ("a", "b"), Index(["/d/1.jpg", "/d/1.png"], torch.tensor([0, 1])))
    with pytest.raises(ValueError, match=r"line 1: '1' is /d/1.jpg and /d/1.png: write the ending"):
        take_subset(twice, written(tmp_path, "1"), "/d")
    assert len(take_subset(twice, written(tmp_path, "1.png"), "/d").left_out) == 1


def test_labels_of_a_list_are_refused_for_images_with_several_labels(tmp_path: Path) -> None:
    several = Splits("multilabel", ("a", "b"), Index(["/d/1.jpg", "/d/2.jpg"], torch.tensor([[1, 0], [1, 1]])))
    with pytest.raises(ValueError, match="but the images have several labels"):
        take_subset(several, written(tmp_path, "1.jpg 0"), "/d")
    assert len(take_subset(several, written(tmp_path, "1.jpg"), "/d").left_out) == 1


def test_repeated_lines_and_classes_without_an_image_are_warned_about(tmp_path: Path) -> None:
    subset = take_subset(data(), written(tmp_path, "train/dög/3.jpg", "train/dög/1.jpg", TRAIN[3]), "/d")
    repeated, empty = subset.warnings
    assert repeated.endswith(f"1 lines repeat an image, which is used once: line 3: {TRAIN[3]!r}")
    assert empty.endswith("1 of 2 classes have no training image in it: chat noir")


def test_the_validation_is_split_off_the_subset_and_corrections_of_other_images_are_accepted(tmp_path: Path) -> None:
    file = written(tmp_path, *TRAIN[:6])
    (tmp_path / "c.csv").write_text(f"path,correction\n{TRAIN[9]},drop\n")
    divided = divide(data(), Division(val_fraction=1 / 3, subset=file, corrections=str(tmp_path / "c.csv")), "/d")
    splits = divided.splits
    assert sorted([*splits["train"].paths, *splits["val"].paths]) == sorted(TRAIN[:6])
    assert (len(splits["val"]), list(splits["test"].paths)) == (2, TEST)


@pytest.mark.slow
def test_a_run_is_evaluated_on_the_same_subset_and_not_resumed_with_another(
    invoke: Callable[..., Any], folder: Path, tmp_path: Path, runs: Callable[[], list[Path]]
) -> None:
    names = [str(path.relative_to(folder)) for path in sorted(folder.glob("train/*/*.png"))]
    file = written(tmp_path, *names[::2])
    assert invoke("train", "data=folder", f"data.root={folder}", f"data.subset={file}", *SMALL).code == 0
    (run,) = runs()
    code, out, err = invoke("evaluate", f"run={run}", "split=train")
    assert code == 0, err
    assert f"on {len(names[::2])} train images" in out
    assert "differ" not in out + err
    code, out, err = invoke("evaluate", f"run={run}", "split=train", "data=folder", f"data.root={folder}")
    assert f"on {len(names[::2])} train images" in out, err
    written(tmp_path, *names[1::2])
    code, _, err = invoke("train", f"resume={run}", "trainer.max_epochs=2")
    assert code == 2
    assert "data differ from the run's" in err
