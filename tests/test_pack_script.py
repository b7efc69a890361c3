"""scripts/pack.py, run from the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import make_folder

from fovea.data.division.subset import take_subset
from fovea.data.store.store import read_store

Invoke = Callable[..., tuple[int, str, str]]
SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "pack.py"
PACK = "../scripts/pack"


def test_a_folder_of_images_is_packed_and_nothing_else_is_written(
    invoke: Invoke, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    words = ("data=folder", f"data.root={folder}", "output=stôre (1)", "format=raw", "num_workers=0")
    code, out, _ = invoke(PACK, *words)
    assert code == 0
    assert "packed and verified: 36 train, 9 val, 15 test images" in out
    assert f"train with data.store={work}/stôre (1)" in out
    assert [file.name for file in work.iterdir()] == ["stôre (1)"]
    assert not (tmp_path / "runs").exists()
    splits = read_store(f"{work}/stôre (1)")
    assert splits.class_names == ("cat", "dog", "owl")
    assert list(splits.train.paths)[:2] == ["train/cat/0.png", "train/cat/1.png"]
    assert splits.train.store is not None
    assert splits.train.store.read(0).shape == (3, 20, 24)
    code, out, _ = invoke(PACK, *words)
    assert code == 0
    assert "packed before, and verified now: 36 train" in out


def test_a_split_taken_from_train_is_packed_too(invoke: Invoke, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "in")
    words = ("data=folder", f"data.root={root}", f"output={tmp_path}/out", "num_workers=0", "data.val_fraction=0.25")
    assert invoke(PACK, *words)[0] == 0
    splits = read_store(f"{tmp_path}/out")
    assert splits.val is not None
    assert (len(splits.train), len(splits.val)) == (27, 9)
    assert splits.test is splits.val


def test_the_subset_that_a_store_was_packed_with_is_not_taken_again(invoke: Invoke, tmp_path: Path) -> None:
    root, names = make_folder(tmp_path / "in"), tmp_path / "subset.txt"
    names.write_text("\n".join(str(path.relative_to(root)) for path in root.glob("*/*[02468].png")))
    words = ("data=folder", f"data.root={root}", f"output={tmp_path}/out", "num_workers=0", "data.val_fraction=0.25")
    assert invoke(PACK, *words, f"data.subset={names}")[0] == 0
    splits = read_store(f"{tmp_path}/out")
    with pytest.raises(ValueError, match=r"images of the val split.*\n.* or type data\.subset=null if the store was"):
        take_subset(splits, str(names), None)


def test_unreadable_images_are_named_or_counted(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    (folder / "train" / "cat" / "3.png").write_bytes(b"no image")
    words = ("data=folder", f"data.root={folder}", f"output={tmp_path}/out", "num_workers=0")
    code, _, err = invoke(PACK, *words)
    assert code == 2
    assert "train/cat/3.png: not an image that can be read" in err
    code, out, _ = invoke(PACK, *words, "data.on_error=skip")
    assert code == 0
    assert "1 couldn't be read and are empty: train/cat/3.png" in out


@pytest.mark.slow
def test_each_format_has_its_default_options(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    usual = {"files": (None, None, None), "jpeg": (256, None, 90), "raw": (None, 400, None)}
    for format, expected in usual.items():
        out = tmp_path / format
        words = ("data=folder", f"data.root={folder}", f"output={out}", f"format={format}", "num_workers=0")
        assert invoke(PACK, *words)[0] == 0
        options = json.loads((out / "store.json").read_text())["options"]
        assert (options["short_side"], options["long_side"], options["quality"]) == expected


@pytest.mark.slow
def test_ctrl_c_ends_packing_with_one_line_and_the_same_command_continues(invoke: Invoke, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "in", images=1500)
    words = ["data=folder", f"data.root={root}", f"output={tmp_path}/out"]
    command = [sys.executable, str(SCRIPT), *words, "format=jpeg", "num_workers=1"]
    started = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"IMAGENET_DIR": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while started.poll() is None and not list((tmp_path / "out").glob("part-*")):
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGINT)  # a terminal sends Ctrl-C to all processes
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert err.splitlines()[-1] == "stopped: the same command continues; the images packed so far are kept"
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "store.json").exists()
    assert invoke(PACK, *words, "format=jpeg", "num_workers=0")[0] == 0
    assert len(read_store(f"{tmp_path}/out").train) == 4050


@pytest.mark.slow
def test_a_copied_store_is_verified_without_the_original_images(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    output = tmp_path / "out"
    assert invoke(PACK, "data=folder", f"data.root={folder}", f"output={output}", "num_workers=0")[0] == 0
    assert {file.stat().st_mode & 0o777 for file in output.iterdir()} == {
        (output / "store.json").stat().st_mode & 0o777
    }
    copy = output.rename(tmp_path / "copy")
    code, out, _ = invoke(PACK, f"output={copy}", "verify=true", "num_workers=0")
    assert code == 0
    assert "60 images, all as they were packed" in out
    part = copy / "part-00000.bin"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    code, _, err = invoke(PACK, f"output={copy}", "verify=true", "num_workers=0")
    assert code == 2
    assert "part-00000.bin is damaged" in err
