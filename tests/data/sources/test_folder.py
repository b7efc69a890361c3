"""Class folders in the layouts that occur in practice."""

import logging
from pathlib import Path

import pytest
import torch
from helpers import deny_listing

from fovea.data.pixels.decode import EXTENSIONS, HEIF_EXTENSIONS
from fovea.data.sources import folder
from fovea.data.sources.folder import read_folder


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def below(root: Path, paths: object) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in paths]  # type: ignore[attr-defined]


def test_train_val_and_test_are_read_with_trains_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/2.jpg", "train/cat/1.png", "train/ant/3.jpg", "train/bee/deep/er/4.webp")
    touch(tmp_path, "val/bee/5.jpg", "test/ant/6.jpg", "test/cat/7.jpg")
    splits = read_folder(tmp_path)
    assert (splits.task, splits.class_names) == ("multiclass", ("ant", "bee", "cat"))
    train = ["train/ant/3.jpg", "train/bee/deep/er/4.webp", "train/cat/1.png", "train/cat/2.jpg"]
    assert below(tmp_path, splits.train.paths) == train
    assert all(type(path) is str for path in splits.train.paths)
    assert splits.train.targets.dtype == torch.int32
    assert splits.train.targets.tolist() == [0, 1, 2, 2]
    assert splits.val is not None
    assert splits.test is not None
    assert splits.val.targets.tolist() == [1]  # by name: bee is val's first class and train's second
    assert splits.test.targets.tolist() == [0, 2]


def test_class_folders_alone_are_all_train(tmp_path: Path) -> None:
    splits = read_folder(touch(tmp_path, "b/1.jpg", "a/2.jpg", "labels.csv"))
    assert splits.class_names == ("a", "b")
    assert below(tmp_path, splits.train.paths) == ["a/2.jpg", "b/1.jpg"]
    assert splits.val is None
    assert splits.test is None


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_the_validation_folder_may_have_several_names(tmp_path: Path, name: str) -> None:
    splits = read_folder(touch(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", f"{name}/b/3.jpg"))
    assert splits.val is not None
    assert below(tmp_path, splits.val.paths) == [f"{name}/b/3.jpg"]


def test_two_validation_folders_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/b/3.jpg", "valid/b/4.jpg")
    with pytest.raises(ValueError, match=r"val and valid.*keep one"):
        read_folder(tmp_path)


def test_every_extension_is_read_in_upper_and_lower_case(tmp_path: Path) -> None:
    names = [f"{end[1:]}{end}" for end in EXTENSIONS] + [f"{end[1:]}{end.upper()}" for end in EXTENSIONS]
    touch(tmp_path, *(f"a/{name}" for name in names), "b/1.jpg")
    assert set(below(tmp_path / "a", read_folder(tmp_path).train.paths[:-1])) == set(names)


def test_paths_with_spaces_and_accents_are_kept(tmp_path: Path) -> None:
    root = touch(tmp_path / "my pictures", "train/Épagneul breton/été 1.jpg", "train/猫/a b.jpg")
    splits = read_folder(root)
    assert splits.class_names == ("Épagneul breton", "猫")
    assert all(Path(path).is_file() for path in splits.train.paths)


def test_hidden_folders_and_files_are_neither_classes_nor_images(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/a/._1.jpg", "train/a/.cache/1.jpg")
    touch(tmp_path, "train/.git/x.jpg", "train/__MACOSX/a/1.jpg", "train/b/__MACOSX/2.jpg", "__MACOSX/a/1.jpg")
    splits = read_folder(tmp_path)
    assert splits.class_names == ("a", "b")
    assert below(tmp_path, splits.train.paths) == ["train/a/1.jpg", "train/b/2.jpg"]


def test_skipped_files_are_counted_once_per_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/a/notes.txt", "train/b/x.npy", "train/loose.jpg")
    touch(tmp_path, "val/a/3.jpg", "val/a/Thumbs.db")
    read_folder(tmp_path)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "train: 3 files skipped (1 .npy, 1 .txt, 1 in no class)" in warnings[0]
    assert all(name in warnings[0] for name in ("notes.txt", "x.npy", "loose.jpg"))
    assert "val: 1 files skipped (1 .db)" in warnings[1]
    assert "Thumbs.db" in warnings[1]


def test_the_warning_about_skipped_heic_files_says_what_to_install(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "EXTENSIONS", tuple(end for end in EXTENSIONS if end not in HEIF_EXTENSIONS))
    touch(tmp_path, "a/1.jpg", "b/2.jpg", "a/3.HEIC", "b/4.heic", "b/notes.txt")
    read_folder(tmp_path)
    assert "3 files skipped (2 .heic, 1 .txt; to read the 2 HEIC: python -m pip install pillow-heif)" in caplog.text


def test_a_folder_with_only_images_is_read_without_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_folder(touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg"))
    assert not caplog.records


def test_a_class_without_training_images_gives_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/c/2.jpg", "val/b/3.jpg")
    (tmp_path / "train/b").mkdir()
    splits = read_folder(tmp_path)
    assert splits.class_names == ("a", "b", "c")
    assert splits.train.targets.tolist() == [0, 2]
    assert splits.val is not None
    assert splits.val.targets.tolist() == [1]
    assert "1 of 3 classes have no training image: b" in caplog.text


def test_unread_folders_beside_train_give_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_folder(touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "unlabelled/3.jpg"))
    assert "1 folders beside train not read: unlabelled" in caplog.text


def test_a_class_that_train_does_not_have_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", "test/B/4.jpg")
    with pytest.raises(ValueError, match=r"test has 1 classes that .*train does not have: B\n.*spelling"):
        read_folder(tmp_path)


def test_a_folder_in_another_layout_is_an_error_that_names_the_expected_one(tmp_path: Path) -> None:
    expected = "expected .*train/<class>/<image>"
    cases = {
        "missing": ([], f"missing does not exist: {expected}"),
        "empty": ([], f"no class folder in .*empty: {expected}"),
        "flat": (["1.jpg", "2.jpg"], f"no class folder in .*flat: {expected}"),
        "flat_test": (
            ["train/a/1.jpg", "train/b/2.jpg", "test/3.jpg"],
            f"no class folder in .*test: {expected}",
        ),
        "words": (["a/1.txt", "b/2.txt"], "no image in .*words: expected .*jpg.*, found only 1.txt, 2.txt .2 .txt."),
        "file": ([], f"file is a file: {expected}"),
    }
    touch(tmp_path, "file")
    (tmp_path / "empty").mkdir()
    for name, (files, message) in cases.items():
        touch(tmp_path / name, *files)
        with pytest.raises(ValueError, match=message) as error:
            read_folder(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


def test_a_folder_without_read_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/b/secret/3.jpg")
    deny_listing(monkeypatch, "secret")
    with pytest.raises(ValueError, match="secret cannot be listed: Permission denied"):
        read_folder(tmp_path)


@pytest.mark.parametrize("link", ["train/a/loop", "train/c"])
def test_a_link_that_would_list_images_twice_is_an_error(tmp_path: Path, link: str) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg")
    (tmp_path / link).symlink_to(tmp_path / "train/a", target_is_directory=True)
    with pytest.raises(ValueError, match="through a link"):
        read_folder(tmp_path)


def test_a_class_folder_may_be_a_link_to_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "store/1.jpg", "data/train/b/2.jpg")
    (tmp_path / "data/train/a").symlink_to(tmp_path / "store", target_is_directory=True)
    splits = read_folder(tmp_path / "data")
    assert below(tmp_path / "data", splits.train.paths) == ["train/a/1.jpg", "train/b/2.jpg"]
