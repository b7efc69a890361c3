"""Images to predict."""

from pathlib import Path

import pytest
from helpers import deny_listing

from fovea.data.files import read_files


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_folder_gives_every_image_below_it_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/2.PNG", "a/1.jpg", "a/notes.txt", "a b/é.webp")
    index = read_files(tmp_path)
    assert index.paths == sorted(str(tmp_path / name) for name in ("b.jpg", "a/2.PNG", "a/1.jpg", "a b/é.webp"))
    assert index.paths.prefix == f"{tmp_path}/"
    assert index.targets.tolist() == [0, 0, 0, 0]


def test_a_list_gives_its_lines_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("b.jpg\n\n  c d.jpg \n/elsewhere/é.jpg\nb.jpg\n", encoding="utf-8")
    names = ["b.jpg", "c d.jpg", "/elsewhere/é.jpg", "b.jpg"]
    assert read_files(tmp_path / "list.txt").paths == [str(tmp_path / name) for name in names]


def test_a_file_is_itself(tmp_path: Path) -> None:
    assert read_files(touch(tmp_path, "x.jpg") / "x.jpg").paths == [str(tmp_path / "x.jpg")]


def test_nothing_and_no_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        read_files(tmp_path / "missing")
    with pytest.raises(ValueError, match="no image there.*jpg"):
        read_files(touch(tmp_path, "notes.txt"))


def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "secret/b.jpg")
    deny_listing(monkeypatch, "secret")
    with pytest.raises(ValueError, match="secret cannot be listed: Permission denied"):
        read_files(tmp_path)
