"""Folder layouts of downloaded datasets: differently named split folders, wrapper folders, copies."""

import logging
from pathlib import Path

import pytest

from fovea.data.scan.layout import Layout
from fovea.data.sources.folder import read_folder

BRAIN = ("glioma", "notumor")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def images(folder: str, *classes: str) -> list[str]:
    return [f"{folder}/{name}/{n}.jpg" for name in classes for n in "12"]


def read(root: Path, layout: Layout = "auto") -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """The classes, and each split's images relative to the root."""
    splits = read_folder(root, layout=layout)
    indices = {"train": splits.train, "val": splits.val, "test": splits.test}
    found = {name: [Path(p).relative_to(root).as_posix() for p in i.paths] for name, i in indices.items() if i}
    return splits.class_names, found


@pytest.mark.parametrize(
    "folders",
    [
        {"train": "Training", "test": "Testing"},
        {"train": "TRAIN", "val": "Validation", "test": "TEST"},
        {"train": "train2017", "val": "val_images", "test": "dataset-test"},
        {"train": "seg_train/seg_train", "test": "seg_test/seg_test"},
        {"train": "asl_alphabet_train/asl_alphabet_train", "val": "dev"},
        {"train": "archive/dataset/train", "val": "archive/dataset/valid", "test": "archive/dataset/test"},
    ],
)
def test_splits_are_found_by_their_names_and_behind_single_folders(tmp_path: Path, folders: dict[str, str]) -> None:
    touch(tmp_path, "__MACOSX/train/glioma/._1.jpg", *(n for part in folders.values() for n in images(part, *BRAIN)))
    expected = {split: images(part, *BRAIN) for split, part in folders.items()}
    assert read(tmp_path) == (BRAIN, expected)


def test_a_single_folder_around_the_splits_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    read(touch(tmp_path, *images("archive/train", *BRAIN), *images("archive/test", *BRAIN)))
    assert "the splits are in archive" in caplog.text


def test_a_class_named_train_needs_layout_classes(tmp_path: Path) -> None:
    touch(tmp_path, "bus/1.jpg", "car/1.jpg", "train/1.jpg")
    with pytest.raises(ValueError, match="no class folder in .*train.*\n.*\nIf train is a class, not.*read.layout=cl"):
        read(tmp_path)
    assert read(tmp_path, "classes") == (
        ("bus", "car", "train"),
        {"train": ["bus/1.jpg", "car/1.jpg", "train/1.jpg"]},
    )


def test_a_class_name_may_contain_a_word_for_a_split(tmp_path: Path) -> None:
    classes, found = read(touch(tmp_path, "beaker/1.jpg", "test tube/1.jpg", "train station/1.jpg"))
    assert classes == ("beaker", "test tube", "train station")
    assert list(found) == ["train"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/cat.0.jpg", "train/dog.0.jpg", "test1/1.jpg"], "no class folder in .*test1: expected .*\n.*1.jpg"),
        (["dogs_train/1.jpg", "dogs_test/1.jpg"], "no class folder in .*dogs_"),
        (images("Train", "a", "b") + images("training", "a", "b"), "has Train and training, both for train"),
        (
            images("cat", "train", "test") + images("dog", "train", "test"),
            "2 folders contain no images.*\n *cat/{tes",
        ),
        (images("batch1", "cat", "dog") + images("batch2", "cat", "dog"), "\n  batch1/{cat, dog}\n  batch2/{cat, dog}"),
        (images("archive", "cat", "dog"), "archive is the only folder.*\n  archive/{cat, dog}"),
        (["cat/1.jpg", "dog/1.jpg", *images("pets", "cat", "dog")], "pets contains folders with the same names as"),
        (images("train", *BRAIN) + images("train/train", *BRAIN), "train contains folders with the same names as"),
        (["cat/1.jpg", "cat/2.jpg", *images("cat", "cat"), "dog/1.jpg"], "cat and cat/cat share 2 image names"),
    ],
)
def test_class_folders_that_look_like_splits_or_copies_are_an_error_that_shows_them(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(touch(tmp_path, *names))
    assert len(str(error.value).splitlines()) <= 5


def test_the_layout_option_overrides_the_check_of_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, *images("alice", "front", "back"), *images("bob", "front", "back"))
    assert read(tmp_path, "classes")[0] == ("alice", "bob")
    split = touch(tmp_path / "split", *(f"train/{name}" for name in images("alice", "front", "back")))
    touch(split, *(f"train/{name}" for name in images("bob", "front", "back")))
    with pytest.raises(ValueError, match="data.read.layout=splits"):
        read(split)
    assert read(split, "splits")[0] == ("alice", "bob")


def test_one_folder_with_the_same_name_in_every_class_is_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in tiny-imagenet."""
    touch(tmp_path, *(f"train/{wnid}/images/{wnid}_{n}.JPEG" for wnid in ("n01", "n02") for n in "12"))
    assert read(tmp_path)[0] == ("n01", "n02")
    assert not caplog.records


def test_images_in_folders_below_a_class_give_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes, found = read(touch(tmp_path, *images("cat", "tabby", "siamese"), *images("dog", "poodle")))
    assert classes == ("cat", "dog")
    assert len(found["train"]) == 6
    assert "2 class folders contain folders, whose images belong to the class: cat, dog" in caplog.text


def test_data_without_train_has_the_classes_of_its_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes, found = read(touch(tmp_path, *images("val", "a"), *images("Testing", "b")))
    assert classes == ("a", "b")
    assert list(found) == ["val", "test"]
    assert "no train: it can be used for evaluation, not for training" in caplog.text


def test_an_unknown_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.read.layout=flat: expected auto, splits or classes"):
        read(tmp_path, "flat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no folder named like a split"):
        read(touch(tmp_path, "a/1.jpg"), "splits")
