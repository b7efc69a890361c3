"""Folders as data sets come when they are downloaded: split folders by any name, wrappers, copies."""

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


def test_a_single_folder_around_the_splits_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    read(touch(tmp_path, *images("archive/train", *BRAIN), *images("archive/test", *BRAIN)))
    assert "the splits are in archive" in caplog.text


def test_a_class_that_is_called_train_needs_one_option(tmp_path: Path) -> None:
    touch(tmp_path, "bus/1.jpg", "car/1.jpg", "train/1.jpg")
    with pytest.raises(ValueError, match="no class folder in .*train.*\n.*\nIf train is a class.*data.read.layout=cl"):
        read(tmp_path)
    assert read(tmp_path, "classes") == (
        ("bus", "car", "train"),
        {"train": ["bus/1.jpg", "car/1.jpg", "train/1.jpg"]},
    )


def test_a_class_whose_name_has_a_splits_word_in_it_is_a_class(tmp_path: Path) -> None:
    classes, found = read(touch(tmp_path, "beaker/1.jpg", "test tube/1.jpg", "train station/1.jpg"))
    assert classes == ("beaker", "test tube", "train station")
    assert list(found) == ["train"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train/cat.0.jpg", "train/dog.0.jpg", "test1/1.jpg"], "no class folder in .*test1: expected .*\n.*1.jpg"),
        (["dogs_train/1.jpg", "dogs_test/1.jpg"], "no class folder in .*dogs_"),
        (images("Train", "a", "b") + images("training", "a", "b"), "has Train and training, both for train"),
        (images("cat", "train", "test") + images("dog", "train", "test"), "2 folders hold no image but.*\n *cat/{tes"),
        (images("batch1", "cat", "dog") + images("batch2", "cat", "dog"), "\n  batch1/{cat, dog}\n  batch2/{cat, dog}"),
        (images("archive", "cat", "dog"), "archive is the only folder.*\n  archive/{cat, dog}"),
        (["cat/1.jpg", "dog/1.jpg", *images("pets", "cat", "dog")], "pets holds folders of the same names as those"),
        (images("train", *BRAIN) + images("train/train", *BRAIN), "train holds folders of the same names as those"),
        (["cat/1.jpg", "cat/2.jpg", *images("cat", "cat"), "dog/1.jpg"], "cat and cat/cat share 2 images by name"),
    ],
)
def test_folders_that_look_like_splits_or_copies_are_refused_as_they_were_found(
    tmp_path: Path, names: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        read(touch(tmp_path, *names))
    assert len(str(error.value).splitlines()) <= 5


def test_whatever_is_refused_for_its_look_can_be_had_as_classes(tmp_path: Path) -> None:
    touch(tmp_path, *images("alice", "front", "back"), *images("bob", "front", "back"))
    assert read(tmp_path, "classes")[0] == ("alice", "bob")
    split = touch(tmp_path / "split", *(f"train/{name}" for name in images("alice", "front", "back")))
    touch(split, *(f"train/{name}" for name in images("bob", "front", "back")))
    with pytest.raises(ValueError, match="data.read.layout=splits"):
        read(split)
    assert read(split, "splits")[0] == ("alice", "bob")


def test_one_folder_of_the_same_name_in_every_class_is_no_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in tiny-imagenet."""
    touch(tmp_path, *(f"train/{wnid}/images/{wnid}_{n}.JPEG" for wnid in ("n01", "n02") for n in "12"))
    assert read(tmp_path)[0] == ("n01", "n02")
    assert not caplog.records


def test_folders_in_classes_count_to_the_class_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes, found = read(touch(tmp_path, *images("cat", "tabby", "siamese"), *images("dog", "poodle")))
    assert classes == ("cat", "dog")
    assert len(found["train"]) == 6
    assert "2 class folders hold folders, whose images count to the class: cat, dog" in caplog.text


def test_data_without_train_has_the_classes_of_its_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes, found = read(touch(tmp_path, *images("val", "a"), *images("Testing", "b")))
    assert classes == ("a", "b")
    assert list(found) == ["val", "test"]
    assert "no train: it can be evaluated on, and not trained on" in caplog.text


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.read.layout=flat: expected auto, splits or classes"):
        read(tmp_path, "flat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no folder named like a split"):
        read(touch(tmp_path, "a/1.jpg"), "splits")
