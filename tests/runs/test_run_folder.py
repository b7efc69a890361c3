import json
from pathlib import Path

import pytest

from fovea.cli.errors import messages
from fovea.runs.run_folder import Results, write_json
from fovea.runs.summary import short_path


def status(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_the_status_follows_the_last_event(tmp_path: Path) -> None:
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


def test_damaged_results_are_named(tmp_path: Path) -> None:
    for text in ("", '{"status": "fin', "[]", '{"seconds": 1.0}', '{"status": "finished", "best": 3}'):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ValueError, match=r"results.json is damaged"):
            Results(tmp_path, "val/loss", writes=True)


def test_only_one_rank_writes(tmp_path: Path) -> None:
    with Results(tmp_path, "val/loss", writes=False).status():
        pass
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"loss": float("nan"), "of": [float("inf"), 1.5], "name": "NaN"})
    assert "NaN" not in (tmp_path / "x.json").read_text().replace('"NaN"', "")
    assert json.loads((tmp_path / "x.json").read_text()) == {"loss": None, "of": [None, 1.5], "name": "NaN"}


def test_a_run_that_fails_or_is_stopped_prints_the_resume_command_if_it_has_a_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results, how = Results(tmp_path, "val/loss", writes=True), f"resume={short_path(tmp_path)}"
    with pytest.raises(ValueError, match="early") as early, results.status():
        raise ValueError("early")
    assert how not in str(messages.screen_text(early.value))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ValueError, match="late") as late, results.status():
        raise ValueError("late")
    assert str(messages.screen_text(late.value)).endswith(how)
    with pytest.raises(ValueError, match="told") as told, results.status():
        raise ValueError(f"told: {how} optimizer.lr=1")
    assert str(messages.screen_text(told.value)).count(how) == 1
    with caplog.at_level("INFO"), pytest.raises(SystemExit), results.status():
        raise KeyboardInterrupt
    assert caplog.messages[-1].endswith(how)
