"""What is read of runs: which folders are runs, which overrides and keys a person chose."""

import json
from pathlib import Path
from typing import Any

import pytest
from board_files import write_run

from fovea.leaderboard.entries import find, jobs_of


def test_runs_are_found_below_folders_once_and_without_their_evaluations(tmp_path: Path) -> None:
    for name in ("b", "a", "deep/er é"):
        write_run(tmp_path / name)
    write_run(tmp_path / "a/evaluate/1")
    assert [entry.name for entry in find([tmp_path])] == ["a", "b", "deep/er é"]
    assert [entry.name for entry in find([tmp_path / "b", tmp_path, tmp_path / "a"])] == ["b", "a", "deep/er é"]
    assert [entry.folder for entry in find([tmp_path / "a/evaluate/1"])] == [tmp_path / "a/evaluate/1"]


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty has no run"):
        find([tmp_path / "empty"])
    with pytest.raises(ValueError, match="missing has no run"):
        find([tmp_path / "missing"])


def test_jobs_of_a_sweep_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        write_run(tmp_path / str(number), job={"number": number, "overrides": [f"seed={number}"]})
    assert [entry.name for entry in jobs_of(tmp_path)] == ["0", "2", "10"]
    assert jobs_of(tmp_path / "none") == []


def test_the_jobs_of_several_sweeps_stay_together(tmp_path: Path) -> None:
    for sweep in ("b", "a"):
        for number in (10, 2):
            job = {"number": number, "overrides": [f"seed={number}"]}
            write_run(tmp_path / sweep / str(number), job=job)
    assert [entry.name for entry in find([tmp_path])] == ["a/2", "a/10", "b/2", "b/10"]


@pytest.mark.parametrize("name", ["results.json", "provenance.json", "config.yaml", "job.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, job={"number": 0, "overrides": []})
    (tmp_path / name).write_text('{"a": [')
    with pytest.raises(ValueError, match=name):
        find([tmp_path])


def test_overrides_that_only_say_where_or_how_to_run_are_left_out_and_later_ones_count(tmp_path: Path) -> None:
    first = [
        "src/train.py",
        "model=a",
        "trainer.max_epochs=5",
        "hydra.run.dir=x",
        "report=false",
        "~mixing.a",
        "+optimizer.x=1",
    ]
    second = ["src/train.py", "resume=runs/1", "trainer.max_epochs=9", "task_name=mine"]
    write_run(tmp_path, argv=[first, second])
    assert list(find([tmp_path])[0].overrides.values()) == [
        "model=a",
        "trainer.max_epochs=9",
        "~mixing.a",
        "+optimizer.x=1",
        "task_name=mine",
    ]


def test_an_evaluation_has_its_runs_monitor_and_a_job_without_results_is_not_begun(tmp_path: Path) -> None:
    evaluation: dict[str, Any] = {"status": "finished", "test": {"accuracy": 0.5}, "split": "val"}
    write_run(tmp_path / "evaluation")
    (tmp_path / "evaluation/results.json").write_text(json.dumps(evaluation))
    (tmp_path / "job").mkdir()
    (tmp_path / "job/job.json").write_text('{"number": 3, "overrides": ["model=a"]}')
    entries = {entry.name: entry for entry in find([tmp_path])}
    assert entries["evaluation"].status == "finished"
    assert entries["evaluation"].monitor == "val/accuracy"  # of its config
    assert (entries["job"].status, entries["job"].config, entries["job"].test) == ("not begun", {}, {})


def test_an_evaluation_has_the_overrides_of_the_run_that_was_tested(tmp_path: Path) -> None:
    write_run(tmp_path / "run", argv=[["src/train.py", "model=a"]])
    write_run(tmp_path / "run/evaluate/1", argv=[])
    (entry,) = find([tmp_path / "run/evaluate/1"])
    assert (list(entry.overrides), entry.data) == (["model"], None)
