import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL

from fovea.cli.command import with_rerun_override
from fovea.runs.bit_differences import differences

Invoke = Callable[..., tuple[int, str, str]]
Runs = Callable[[], list[Path]]


def made(folder: Path, more: str = "", **others: Any) -> Path:
    """A run folder with the files that are compared."""
    (folder / "checkpoints").mkdir(parents=True)
    figures = {"f1": others.get("test", 0.75), "loss": None}
    (folder / "results.json").write_text(json.dumps({"status": "finished", "test": figures}))
    loss, speed = others.get("loss", "0.5"), others.get("speed", "10")
    rows = f"step,epoch,train/loss,train/images_per_second\n3,0,0.9,5\n4,0,{loss},{speed}\n5,0,{loss},\n"
    (folder / "metrics.csv").write_text(rows + more)
    weight = torch.tensor(others.get("weight", 1.0))
    best = {"best_model_score": torch.tensor(others.get("score", 0.5)), "dirpath": str(folder)}
    state = {
        "state_dict": {"a": torch.tensor([float("nan"), 2.0]), "network.time_embed.path": weight},
        "optimizer_states": [{"state": {0: {"step": 1}}}],
        "running": {"logged": {"train/images_per_second": float(speed), "train/loss": 0.5}},
        "callbacks": {"SaveBest{'train_time_interval': None}": best},
        "config": {"run_dir": str(folder)},
    }
    torch.save(state, folder / "checkpoints" / "last.ckpt")
    return folder


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({}, []),
        ({"speed": "11"}, []),
        ({"test": 0.76}, ["test f1: 0.75 then, 0.76 now"]),
        ({"loss": "0.6"}, ["metrics.csv: 2 of 6 values differ, the first is train/loss at step 4: 0.5 then, 0.6 now"]),
        (
            {"more": "9,1,0.1,\n"},
            ["metrics.csv: 2 of 8 values differ, the first is epoch at step 9: nothing then, 1 now"],
        ),
        (
            {"weight": 1.25},
            ["last.ckpt: 1 of 5 values differ, by 0.25 at most; the first is state_dict.network.time_embed.path"],
        ),
        (
            {"weight": -1.0},
            ["last.ckpt: 1 of 5 values differ, by 2 at most; the first is state_dict.network.time_embed.path"],
        ),
        (
            {"score": 1.0},
            [
                "last.ckpt: 1 of 5 values differ, by 0.5 at most; "
                "the first is callbacks.SaveBest{'train_time_interval': None}.best_model_score"
            ],
        ),
    ],
)
def test_differences_are_listed_except_those_of_speed(tmp_path: Path, others: dict[str, Any], said: list[str]) -> None:
    assert differences(made(tmp_path / "one"), made(tmp_path / "other", **others)) == said


def test_a_value_that_is_logged_twice_is_a_difference(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", more="5,0,0.5,\n")
    assert differences(one, other)[0] == f"{other}/metrics.csv has epoch of step 5 twice"


def test_zeros_of_another_sign_and_checkpoints_that_one_run_lacks_are_differences(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one", weight=0.0), made(tmp_path / "other", weight=-0.0)
    assert "1 of 5 values differ" in differences(one, other)[0]
    (other / "checkpoints" / "last.ckpt").rename(other / "checkpoints" / "best.ckpt")
    assert [line.partition(":")[0] for line in differences(one, other)] == ["last.ckpt", "best.ckpt"]


@pytest.mark.parametrize("name", ["val/sentiment", "val/lifetime_f1", "val/speed_limit", "train/seconds_of_video"])
def test_a_metric_with_time_or_speed_in_its_name_is_compared(tmp_path: Path, name: str) -> None:
    runs = []
    for value in (0.25, 0.5):
        run = made(tmp_path / str(value))
        (run / "metrics.csv").write_text(f"step,epoch,{name}\n3,0,{value}\n")
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        state["running"]["logged"][name] = value
        torch.save(state, run / "checkpoints" / "last.ckpt")
        runs.append(run)
    assert differences(*runs) == [
        f"metrics.csv: 1 of 2 values differ, the first is {name} at step 3: 0.25 then, 0.5 now",
        f"last.ckpt: 1 of 6 values differ, by 0.25 at most; the first is running.logged.{name}",
    ]


@pytest.mark.parametrize(("ended_at", "said"), [(None, 2), (10, 0), (9, 2)])
def test_values_logged_at_the_first_end_of_a_prolonged_run_are_not_differences(
    tmp_path: Path, ended_at: int | None, said: int
) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", more="9,1,0.1,\n")
    content = {"starts": [{}, {"ended_at": ended_at}]}
    (other / "provenance.json").write_text(json.dumps(content))
    assert len(differences(one, other)) == (1 if said else 0)
    assert all(f": {said} of" in line for line in differences(one, other))


def test_a_run_whose_results_are_gone_differs_in_its_figures(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    (one / "results.json").unlink()
    assert differences(one, other) == ["test f1: None then, 0.75 now"]


@pytest.mark.parametrize("words", [["rerun=a b"], ["--rerun", "a b"], ["--rerun=a b"]])
def test_rerun_can_be_spelled_as_an_option(words: list[str]) -> None:
    assert with_rerun_override(["seed=1", *words, "-m"]) == ["seed=1", "rerun=a b", "-m"]


def test_a_run_is_repeated_from_its_folder_alone_and_is_identical(invoke: Invoke, runs: Runs, trained: Path) -> None:
    code, out, err = invoke("train", "--rerun", str(trained))
    assert code == 0, err
    assert f"identical to {trained}" in out
    (again,) = set(runs()) - {trained}
    assert json.loads((again / "rerun.json").read_text()) == {"of": str(trained), "identical": True, "differences": []}
    assert json.loads((again / "results.json").read_text())["status"] == "finished"
    assert "not as in the first run" not in out


@pytest.mark.slow
def test_a_rerun_with_changes_is_reported_as_different_before_and_after(
    invoke: Invoke, runs: Runs, trained: Path
) -> None:
    code, out, _ = invoke("train", f"rerun={trained}", "optimizer.lr=0.05", "data.num_workers=2")
    assert code == 1
    assert "not as in the first run: the config: optimizer.lr: 0.1 then, 0.05 now" in out
    assert "not identical" in out
    (again,) = set(runs()) - {trained}
    found = json.loads((again / "rerun.json").read_text())
    assert not found["identical"]
    assert any("values differ" in line for line in found["differences"])


@pytest.mark.slow
def test_a_run_that_was_stopped_and_resumed_and_began_with_weights_is_repeated_identically(
    invoke: Invoke, runs: Runs, trained: Path, folder: Path
) -> None:
    weights = f"{trained}/checkpoints/best.ckpt"
    data = ("data=folder", f"data.root={folder}", *SMALL, "trainer.max_epochs=2", "scheduler=constant")
    assert invoke("train", *data, f"weights={weights}", "trainer.max_steps=2")[0] == 0
    (run,) = set(runs()) - {trained}
    assert invoke("train", f"resume={run}", "trainer.max_steps=-1")[0] == 0
    code, out, err = invoke("train", f"rerun={run}")
    assert code == 0, out + err
    (again,) = set(runs()) - {trained, run}
    rows = [list(csv.DictReader((one / "metrics.csv").open())) for one in (run, again)]
    losses = [[row["val/loss"] for row in table if row["val/loss"]] for table in rows]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
    assert f"weights from {weights}" in (again / "train.log").read_text()


def test_an_unfinished_run_is_not_repeated(invoke: Invoke, trained: Path) -> None:
    results = trained / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"status": "interrupted"}))
    code, _, err = invoke("train", f"rerun={trained}")
    assert code == 2
    assert "is interrupted" in err
    assert f"resume={trained}" in err


def test_damaged_results_of_the_run_are_named(invoke: Invoke, trained: Path) -> None:
    (trained / "results.json").write_text("")
    code, _, err = invoke("train", f"rerun={trained}")
    assert code == 2
    assert f"error: {trained}/results.json is damaged" in err


def test_a_run_is_either_repeated_or_resumed(invoke: Invoke, trained: Path) -> None:
    code, _, err = invoke("train", f"rerun={trained}", f"resume={trained}")
    assert code == 2
    assert "keep one of them" in err


@pytest.mark.slow
def test_the_same_command_as_two_whole_processes_gives_the_same_bits_whatever_the_worker_count(
    program: Callable[..., subprocess.CompletedProcess[str]], runs: Runs, folder: Path
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "model=mobilenet_v2", "trainer.max_epochs=2")
    for workers in (0, 2):
        assert program("train", *data, f"data.num_workers={workers}").returncode == 0
    first, second = runs()
    assert differences(first, second) == []
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (first, second)]
    weights, others = (state["state_dict"] for state in states)
    assert weights.keys() == others.keys()
    for key in weights:
        assert torch.equal(weights[key], others[key]), key
