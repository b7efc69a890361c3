"""Which runs are repetitions of one experiment, and the mean and deviation of their figures."""

from pathlib import Path
from typing import Any

import numpy as np
from board_files import write_run

from fovea.leaderboard.entries import find
from fovea.leaderboard.groups import Group, different_keys, figure, grouped, shared_overrides


def groups_of(folder: Path, *runs: dict[str, Any]) -> list[Group]:
    for n, run in enumerate(runs):
        write_run(folder / str(n), **run)
    return grouped(find([folder]))


def seeded(seed: int, rate: float, **more: Any) -> dict[str, Any]:
    words = ["src/train.py", f"seed={seed}", f"optimizer.lr={rate}", "model=a"]
    return {"config": {"seed": seed, "optimizer": {"lr": rate}}, "argv": [words], **more}


def test_runs_that_differ_in_the_seed_are_one_group_with_mean_and_sample_deviation(tmp_path: Path) -> None:
    accuracies = [0.71, 0.82, 0.9]
    runs = [seeded(n, 0.1, best=0.5, test={"accuracy": value}) for n, value in enumerate(accuracies)]
    other, same = groups_of(tmp_path, *runs, seeded(0, 0.2, best=0.6))
    assert (other.label, same.label) == ("optimizer.lr=0.2", "optimizer.lr=0.1")
    found = same.test("accuracy")
    np.testing.assert_allclose([found.mean, found.deviation], [np.mean(accuracies), np.std(accuracies, ddof=1)])
    assert (found.n, other.test("accuracy").deviation) == (3, None)
    assert shared_overrides([*other.entries, *same.entries]) == ["model=a"]


def test_the_better_monitor_is_first_in_either_direction(tmp_path: Path) -> None:
    runs = [seeded(0, rate, best=best) for rate, best in ((0.1, 0.4), (0.2, 0.9), (0.3, None))]
    assert [group.label[-3:] for group in groups_of(tmp_path / "max", *runs)] == ["0.2", "0.1", "0.3"]
    for run in runs:
        run["config"] = run["config"] | {"mode": "min"}
    assert [group.label[-3:] for group in groups_of(tmp_path / "min", *runs)] == ["0.1", "0.2", "0.3"]


def test_runs_with_different_monitors_stay_in_their_order(tmp_path: Path) -> None:
    runs = [seeded(0, 0.1, best=0.1), seeded(0, 0.2, best=0.9, monitor="val/loss")]
    assert [group.label[-3:] for group in groups_of(tmp_path, *runs)] == ["0.1", "0.2"]


def test_unfinished_runs_do_not_count_beside_finished_ones(tmp_path: Path) -> None:
    failed = seeded(2, 0.1, best=0.1, test={}, status="failed", error="ValueError: no")
    (group,) = groups_of(tmp_path, seeded(0, 0.1, best=0.8), seeded(1, 0.1, best=0.9), failed)
    assert (group.status, group.best.n) == ("2 finished, 1 failed", 2)
    assert np.isclose(group.best.mean, 0.85)


def test_undefined_figures_do_not_count() -> None:
    assert figure([None, 0.5, None]) == (0.5, None, 1)
    assert figure([None]) is None


def test_runs_of_other_data_are_not_averaged_unless_they_are_folds(tmp_path: Path) -> None:
    first, second = groups_of(tmp_path / "data", seeded(0, 0.1), seeded(1, 0.1, data="d2"))
    assert {first.label, second.label} == {"data d1", "data d2"}
    folds = [seeded(0, 0.1, data=f"d{fold}") for fold in (0, 1)]
    for fold, run in enumerate(folds):
        run["config"] = run["config"] | {"data": {"fold": fold}}
    assert len(groups_of(tmp_path / "folds", *folds)) == 1


def test_equal_overrides_with_other_defaults_are_told_apart_by_their_configs(tmp_path: Path) -> None:
    runs = [seeded(0, 0.1) | {"config": {"optimizer": {"lr": rate}}} for rate in (0.1, 0.5)]
    groups = groups_of(tmp_path, *runs)
    assert {group.label for group in groups} == {"optimizer.lr=0.1", "optimizer.lr=0.5"}
    assert different_keys([group.entries[0] for group in groups]) == ["optimizer.lr"]


def test_what_only_the_machine_or_the_screen_needs_tells_no_runs_apart(tmp_path: Path) -> None:
    own = {
        "run_dir": "/a",
        "runs_dir": "/b",
        "report": False,
        "class_names": ["x"],
        "trainer": {"max_epochs": 1, "profiler": "simple"},
    }
    assert len(groups_of(tmp_path, {}, {"config": own})) == 1


def test_a_job_that_never_began_is_of_the_group_of_its_seeds(tmp_path: Path) -> None:
    for number, seed in ((0, 0), (1, 1)):
        job = {"number": number, "overrides": ["model=a", f"seed={seed}"]}
        write_run(tmp_path / str(number), config={"seed": seed, "model": {"name": "a"}}, job=job)
    write_run(tmp_path / "3", config={"model": {"name": "b"}}, job={"number": 3, "overrides": ["model=b", "seed=0"]})
    (tmp_path / "2").mkdir()
    (tmp_path / "2/job.json").write_text('{"number": 2, "overrides": ["model=a", "seed=2"]}')
    groups = grouped(find([tmp_path]))
    assert [(group.label, group.status) for group in groups] == [
        ("model=a", "2 finished, 1 not begun"),
        ("model=b", "finished"),
    ]


def test_runs_that_failed_before_they_had_a_config_are_not_averaged(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text('{"status": "failed", "seconds": 1, "error": "ValueError: no"}')
    write_run(tmp_path / "c")
    assert [group.label for group in grouped(find([tmp_path]))] == ["defaults", "a", "b"]


def test_labels_differ_even_if_the_first_different_keys_are_equal(tmp_path: Path) -> None:
    keys = ("a", "b", "c", "d")
    rows = [(0, 0, 0, 0), (1, 1, 1, 0), (1, 1, 1, 1), (None, True, 1, 1)]
    runs: list[dict[str, Any]] = [{"config": {"optimizer": dict(zip(keys, row, strict=True))}} for row in rows]
    labels = [group.label for group in groups_of(tmp_path, *runs, runs[0] | {"data": "d2"})]
    assert len(set(labels)) == 5
    start = "optimizer.a=1 optimizer.b=1 optimizer.c=1 optimizer.d="
    assert [label for label in labels if label.startswith(start)] == [start + "0", start + "1"]
    assert any("optimizer.a=null optimizer.b=true" in label for label in labels)  # as they are typed
    assert sum("data d" in label for label in labels) == 2


def test_an_evaluation_is_told_from_its_run_by_the_split(tmp_path: Path) -> None:
    write_run(tmp_path / "run", config={"data": {"sampler": {"power": 1}}})
    write_run(tmp_path / "run/evaluate/1", None, config={"split": "val"}, argv=[])
    groups = grouped(find([tmp_path / "run", tmp_path / "run/evaluate/1"]))
    assert [group.label for group in groups] == ["defaults", "split=val"]
