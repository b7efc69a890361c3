import json
import subprocess
from pathlib import Path

import pytest
import torch

from fovea.run import Results, best_or_last, git_state, last_checkpoint, write_provenance


def status(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_the_status_is_what_last_happened(tmp_path: Path) -> None:
    results = Results(tmp_path, "val/loss", writes=True)
    with results.status():
        assert status(tmp_path)["status"] == "running"
    assert status(tmp_path)["status"] == "finished"
    again = Results(tmp_path, "val/loss", writes=True)
    with pytest.raises(ValueError, match="refused"), again.status():
        raise ValueError("refused")
    assert status(tmp_path)["status"] == "finished"  # nothing has begun
    with pytest.raises(ValueError, match="no"), again.status():
        again.update()
        raise ValueError("no\nmore")
    assert (status(tmp_path)["status"], status(tmp_path)["error"]) == ("failed", "ValueError: no")
    third = Results(tmp_path, "val/loss", writes=True)
    with pytest.raises(SystemExit) as stop, third.status():
        third.update()
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert status(tmp_path)["status"] == "interrupted"
    assert "error" not in status(tmp_path)


def test_a_resumed_run_adds_its_seconds_and_keeps_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"status": "interrupted", "seconds": 100.0, "steps": 7}')
    with Results(tmp_path, "val/loss", writes=True).status():
        pass
    assert status(tmp_path)["seconds"] >= 100
    assert status(tmp_path)["steps"] == 7


def test_only_one_process_writes(tmp_path: Path) -> None:
    with Results(tmp_path, "val/loss", writes=False).status():
        pass
    assert not list(tmp_path.iterdir())


def test_the_best_checkpoint_is_taken_else_the_last(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint yet"):
        best_or_last(tmp_path)
    with pytest.raises(ValueError, match="there is no"):
        last_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        torch.save({}, tmp_path / "checkpoints" / name)
        assert best_or_last(tmp_path).name == name
    assert last_checkpoint(tmp_path).name == "last.ckpt"
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="is damaged"):
        last_checkpoint(tmp_path)


def test_provenance_has_an_entry_for_each_start(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_provenance(tmp_path, seed, "abc")
    starts = json.loads((tmp_path / "provenance.json").read_text())["starts"]
    assert [start["seed"] for start in starts] == [0, 1]


def test_the_commit_and_what_differs_from_it_are_known_and_env_is_not_told(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None

    def git(*words: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    git("init")
    for name in ("code.py", ".env"):
        (tmp_path / name).write_text("before\n")
    git("add", "-f", ".")
    git("commit", "-m", "first")
    for name in ("code.py", ".env"):
        (tmp_path / name).write_text("after\n")
    state = git_state(tmp_path)
    assert state is not None
    assert len(state["commit"]) == 40
    assert "+after" in state["diff"]
    assert ".env" not in state["diff"]
