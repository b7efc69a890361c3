"""Images to predict."""

from pathlib import Path

import pytest
from helpers import deny_listing

from fovea.data.sources.folder import read_folder
from fovea.data.sources.image_files import read_files


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_folder_is_read_with_all_images_below_it_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/2.PNG", "a/1.jpg", "a/notes.txt", "a b/é.webp")
    index = read_files(tmp_path)
    assert index.paths == sorted(str(tmp_path / name) for name in ("b.jpg", "a/2.PNG", "a/1.jpg", "a b/é.webp"))
    assert index.paths.prefix == f"{tmp_path}/"
    assert index.targets.tolist() == [0, 0, 0, 0]


def test_a_folder_is_searched_in_the_same_way_as_for_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "elsewhere", "far.jpg")
    source = touch(
        tmp_path / "data" / "source", "a/1.jfif", "a/2.JPE", "b/3.jpg", "a/._1.jpg", ".thumbnails/1.png", "notes.TXT"
    )
    touch(source, "b/@eaDir/3.jpg", "__MACOSX/3.jpg", "raw")
    (source / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (source / "b" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "far.jpg")
    names = ["a/1.jfif", "a/2.JPE", "b/3.jpg", "b/link.jpg", "linked/far.jpg"]
    assert read_files(source).paths == [str(source / name) for name in names]
    assert "6 files skipped (4 hidden, 1 .txt, 1 without an ending)" in caplog.text
    classes = read_folder(tmp_path / "data", layout="classes").train
    assert classes is not None
    assert list(classes.paths) == read_files(source).paths


def test_a_link_to_a_parent_folder_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ValueError, match="through a link"):
        read_files(tmp_path)


def test_the_paths_in_a_list_are_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("b.jpg\n\n  c d.jpg \n/elsewhere/é.jpg\nb.jpg\n", encoding="utf-8")
    names = ["b.jpg", "c d.jpg", "/elsewhere/é.jpg", "b.jpg"]
    assert read_files(tmp_path / "list.txt").paths == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize("name", ["x.jpg", ".hidden.png", "noending", "x.heic"])
def test_a_single_file_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    assert read_files(touch(tmp_path, name) / name).paths == [str(tmp_path / name)]


def test_a_missing_source_and_a_folder_without_images_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        read_files(tmp_path / "missing")
    with pytest.raises(ValueError, match="no image found.*jpg.*only 1 .txt"):
        read_files(touch(tmp_path, "notes.txt"))


def test_a_folder_without_read_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "secret/b.jpg")
    deny_listing(monkeypatch, "secret")
    with pytest.raises(ValueError, match="secret cannot be listed: Permission denied"):
        read_files(tmp_path)
