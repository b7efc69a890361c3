"""scripts/browse.py, run from the command line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

Invoke = Callable[..., tuple[int, str, str]]
BROWSE = "../scripts/browse"


def test_a_page_of_a_folder_is_written_and_nothing_else(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    (folder / "train" / "cat" / "3.png").write_bytes(b"no image")
    file = tmp_path / "new folder" / "é.html"
    words = ("data=folder", f"data.root={folder}", f"output={file}", "data.image_size=16", "samples=40", "epochs=2")
    code, out, err = invoke(BROWSE, *words, "augmented=3")
    assert (code, err) == (0, "")
    assert "59 images of" in out
    text = file.read_text("utf-8")
    assert text.count("<img ") == 59 + 3 * (2 + 2)
    assert "36 train, 9 val, 15 test" in text
    assert "train/cat/3.png" in text
    assert "1 of the 36 chosen images could not be read" in text
    assert re.findall(r"<h2.*?>(.*)</h2>", text)[:3] == ["train: 36 images", "val: 9 images", "test: 15 images"]
    assert {path.name for path in tmp_path.iterdir()} <= {"mes données", "new folder", "data"}


def test_data_with_several_labels_are_shown(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    rows = [f"{path.relative_to(folder)},{path.parts[-3]},1,{n % 2}" for n, path in enumerate(folder.rglob("*.png"))]
    (folder / "labels.csv").write_text("\n".join(["path,split,a,b", *rows]) + "\n")
    words = ("data=multilabel_csv", f"data.root={folder}", f"output={tmp_path}/x.html", "samples=5", "augmented=1")
    code, out, err = invoke(BROWSE, *words)
    assert code == 0, err
    assert "15 images of" in out
    assert "several labels" in (tmp_path / "x.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("data", ["digits", "digits_multilabel"])
def test_digits_with_one_and_with_several_labels_are_shown(invoke: Invoke, tmp_path: Path, data: str) -> None:
    code, out, _ = invoke(BROWSE, f"data={data}", f"output={tmp_path}/x.html", "samples=5", "augmented=1", "measured=9")
    assert code == 0
    assert "15 images of" in out
    assert ("several labels" in (tmp_path / "x.html").read_text()) == (data == "digits_multilabel")


def test_data_without_other_splits_is_shown_once(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    words = ("data=folder", f"data.root={folder / 'train'}", "data.val_fraction=0", f"output={tmp_path}/x.html")
    assert invoke(BROWSE, *words)[0] == 0
    assert "36 train; test is one of these" in (tmp_path / "x.html").read_text()
