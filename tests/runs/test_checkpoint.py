import enum
import logging
import os
import resource
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from fovea.runs import checkpoint
from fovea.runs.checkpoint import NEEDED, SafeCheckpointIO, to_evaluate, to_resume, to_start_from

CONTENT: dict[str, Any] = {key: {} for key in NEEDED}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with a last checkpoint and the one before it."""
    for name in ("previous", "last"):
        SafeCheckpointIO().save_checkpoint(CONTENT | {"name": name}, tmp_path / "checkpoints" / f"{name}.ckpt")
    return tmp_path


def test_a_checkpoint_is_flushed_before_and_its_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("fsync") or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("replace") or replace(*names))
    SafeCheckpointIO().save_checkpoint({"a": 1}, tmp_path / "x.ckpt")
    assert done == ["fsync", "replace", "fsync"]
    assert SafeCheckpointIO().load_checkpoint(tmp_path / "x.ckpt") == {"a": 1}


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "x.ckpt"
    SafeCheckpointIO().save_checkpoint({"x": torch.ones(3)}, file)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # Python ignores the signal: the write fails
    try:
        with pytest.raises(OSError, match="the checkpoint could not be written") as error:
            SafeCheckpointIO().save_checkpoint({"x": torch.zeros(100_000)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.filename == str(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float64(0.93), "numpy.float64"),
        (np.ones(2), "numpy.ndarray"),
        (Path("a"), "pathlib.PosixPath"),
        (Colour.RED, f"{__name__}.Colour"),
        (DictConfig({"a": 1}), "omegaconf.dictconfig.DictConfig"),
        (lambda: None, "builtins.function"),
        ({np.str_("a"): 1}, "builtins.dict"),
    ],
)
def test_a_state_that_could_not_be_read_again_is_refused_with_its_callback_and_the_old_file_kept(
    tmp_path: Path, value: Any, kind: str
) -> None:
    writer, file = SafeCheckpointIO(), tmp_path / "x.ckpt"
    good = {"callbacks": {"Mine": {"best": 0.5, "seen": [1, (2, None)]}}, "state_dict": {"w": torch.ones(2)}}
    writer.save_checkpoint(good, file)
    before = file.read_bytes()
    for place, spoilt in (("best", value), ("seen.1.1", [1, (2, value)])):
        bad = {"callbacks": {"Mine": good["callbacks"]["Mine"] | {place.partition(".")[0]: spoilt}}}
        with pytest.raises(ValueError, match=f"the state of the callback Mine: {place} is a {kind} .*\n.*state_dict"):
            writer.save_checkpoint(good | bad, file)
    with pytest.raises(ValueError, match=r"checkpoint\['mine'\]: all of it is a " + kind):
        writer.save_checkpoint(good | {"mine": value}, file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_checkpoint_usually_holds_can_be_read_again(tmp_path: Path) -> None:
    values = [torch.ones(2), nn.Parameter(torch.ones(2)), Counter([1]), OrderedDict(a=1), (1, "é"), None, 1.5, b"x"]
    SafeCheckpointIO().save_checkpoint(
        {"callbacks": {"Mine": {str(n): v for n, v in enumerate(values)}}}, tmp_path / "x"
    )


def test_a_checkpoint_is_read_back_if_its_keys_or_types_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads, writer = checkpoint.read, [], SafeCheckpointIO()
    monkeypatch.setattr(checkpoint, "read", lambda file: reads.append(file) or read(file))
    contents: list[Any] = [{"a": 1, "b": [1.0]}, {"a": 2, "b": [2.0, 3.0]}, {"a": None, "b": []}, {"c": 1}, {"c": 2}]
    read_back = []
    for content in contents:
        writer.save_checkpoint(content, tmp_path / "x.ckpt")
        read_back.append(bool(reads))
        reads.clear()
    assert read_back == [True, False, True, True, False]


def test_a_file_that_the_disk_spoils_is_told_from_a_state_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "save", lambda content, out: out.write(b"nothing"))
    monkeypatch.setattr(checkpoint, "_can_be_read", lambda value: True)
    with pytest.raises(ValueError, match="the disk may be at fault"):
        SafeCheckpointIO().save_checkpoint({"a": {}}, tmp_path / "x.ckpt")


def test_the_last_checkpoint_is_used(folder: Path) -> None:
    assert to_resume(folder).name == "last.ckpt"


def test_a_checkpoint_that_was_not_yet_renamed_is_used_first(folder: Path) -> None:
    SafeCheckpointIO().save_checkpoint(CONTENT, folder / "checkpoints" / "new.ckpt")
    assert to_resume(folder).name == "new.ckpt"


@pytest.mark.parametrize("fault", ["cut short", "empty", "foreign", "text", "a byte is another", "weights alone"])
def test_a_damaged_or_foreign_checkpoint_is_named_and_the_one_before_it_used(
    fault: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = folder / "checkpoints" / "last.ckpt"
    whole = file.read_bytes()
    if fault == "foreign":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("hello.txt", "hello")
    elif fault == "weights alone":
        torch.save({"state_dict": {}}, file)
    else:
        at = whole.index(b"last", 100) if fault == "a byte is another" else 0
        changed = whole[:at] + b"lost" + whole[at + 4 :]
        file.write_bytes({"cut short": whole[:-30], "empty": b"", "text": b"hello"}.get(fault, changed))
    with caplog.at_level(logging.ERROR):
        assert to_resume(folder).name == "previous.ckpt"
    assert str(file) in caplog.text


def test_if_any_byte_is_wrong_the_checkpoint_before_is_used(folder: Path) -> None:
    file = folder / "checkpoints" / "last.ckpt"
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        assert to_resume(folder).name in ("last.ckpt", "previous.ckpt"), place


def test_ckpt_path_refuses_a_file_that_a_training_cannot_continue_from(tmp_path: Path) -> None:
    torch.save({key: {} for key in NEEDED if key != "running"}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"(?s)ckpt_path=.*other.ckpt .*has no running.*weights="):
        to_start_from(tmp_path / "other.ckpt")


def test_if_all_checkpoints_are_damaged_all_are_named(folder: Path) -> None:
    for file in (folder / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"(?s)last.ckpt is damaged.*previous.ckpt is damaged.*weights="):
        to_resume(folder)


def test_a_run_without_a_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no .*last.ckpt"):
        to_resume(tmp_path)


def test_the_best_checkpoint_is_evaluated_else_the_last(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint yet"):
        to_evaluate(tmp_path, None)
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        torch.save({}, tmp_path / "checkpoints" / name)
        assert to_evaluate(tmp_path, None).name == name
