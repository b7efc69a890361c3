"""`last` and the files of a run's folder stand for the run."""

import json
import os
from pathlib import Path

import pytest

from fovea.cli.named_run import with_run_folders
from fovea.cli.paths import with_value


def make_run(folder: Path, started: int, status: str = "finished", *checkpoints: str) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    os.utime(folder / "config.yaml", (started, started))
    (folder / "results.json").write_text(json.dumps({"status": status}))
    for name in checkpoints:
        (folder / "checkpoints" / name).touch()
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Runs of different states, the oldest first."""
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = make_run(tmp_path / "train" / "été", 1000, "finished", "best.ckpt", "last.ckpt")
    make_run(done / "evaluate" / "x", 9000)  # an evaluation is not a run
    stopped = make_run(tmp_path / "train" / "sweep" / "0", 2000, "interrupted", "last.ckpt")
    (stopped / "job.json").touch()
    only_best = make_run(tmp_path / "other" / "b", 3000, "failed", "best.ckpt")
    return {"done": done, "stopped": stopped, "best": only_best, "young": make_run(tmp_path / "c", 4000, "running")}


@pytest.mark.parametrize(("key", "which"), [("run", "best"), ("resume", "stopped"), ("rerun", "done")])
def test_last_is_the_newest_usable_run_and_is_printed(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], key: str, which: str
) -> None:
    assert with_run_folders(["seed=1", f"{key}=last"], [key]) == ["seed=1", with_value(key, runs[which])]
    said = capsys.readouterr().err
    assert f"{key}=last is {runs[which]}" in said
    assert f"({runs['young']} is newer, but no " in said
    assert ("a job of the sweep" in said) == (key == "resume")


def test_last_without_any_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"resume=last: there is no run with a checkpoint to resume from in .* \(RUNS_DIR\)"
    ):
        with_run_folders(["resume=last"], ["resume"])


def test_a_checkpoint_stands_for_its_run_and_is_used(runs: dict[str, Path]) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        file = runs["done"] / "checkpoints" / name
        found = with_run_folders([with_value("run", file)], ["run"])
        assert found == [with_value("run", runs["done"]), with_value("ckpt_path", file)]
    last = with_value("resume", runs["done"] / "checkpoints" / "last.ckpt")
    assert with_run_folders([last], ["resume", "rerun"]) == [with_value("resume", runs["done"])]


@pytest.mark.parametrize("name", ["checkpoints", "config.yaml", "results.json"])
def test_a_file_of_a_run_folder_stands_for_the_run(runs: dict[str, Path], name: str) -> None:
    for key in ("run", "resume", "rerun"):
        assert with_run_folders([with_value(key, runs["done"] / name)], [key]) == [with_value(key, runs["done"])]


def test_run_folders_and_other_paths_are_left_as_typed(runs: dict[str, Path]) -> None:
    for word in (f"run={runs['best']}", "run=/nope", "run=", "run=null", "ckpt_path=last"):
        assert with_run_folders([word], ["run"]) == [word]
    make_run(Path("last"), 1)
    assert with_run_folders(["run=last"], ["run"]) == ["run=last"]


@pytest.mark.parametrize(
    ("key", "file", "more", "said"),
    [
        ("resume", "best.ckpt", (), "so type resume={run}\nTo begin a new run from best.ckpt: weights={file} "),
        ("rerun", "last.ckpt", (), "a run is repeated from its beginning, so type rerun={run}"),
        ("run", "best.ckpt", ("ckpt_path=x",), "both name a checkpoint: type run={run}"),
    ],
)
def test_the_error_for_a_checkpoint_that_a_key_cannot_use_names_what_to_type(
    runs: dict[str, Path], key: str, file: str, more: tuple[str, ...], said: str
) -> None:
    path = runs["done"] / "checkpoints" / file
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        with_run_folders([with_value(key, path), *more], [key])
    assert said.format(run=runs["done"], file=path) in str(caught.value)


def test_a_checkpoint_without_its_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    with pytest.raises(ValueError, match="is a checkpoint without its run folder: type run=<run folder>"):
        with_run_folders([with_value("run", tmp_path / "best.ckpt")], ["run"])
