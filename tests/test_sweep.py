"""`train -m`: a failed job doesn't stop the others, and a sweep that is started again runs only missing jobs."""

import csv
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from helpers import SMALL

from fovea.cli.sweep import _can_go_on, _is_unsafe
from fovea.config.resolvers import PROJECT
from fovea.report import prediction_file

Invoke = Callable[..., tuple[int, str, str]]
Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def data(folder: Path) -> tuple[str, ...]:
    return ("data=folder", f"data.root={folder}", *SMALL, "logger=csv")


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def starts(run: Path) -> int:
    return len(json.loads((run / "provenance.json").read_text())["starts"])


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_a_failed_job_is_reported_the_others_run_and_a_second_start_runs_only_missing_jobs(
    invoke: Invoke, data: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "mon sweep"
    typed = ("-m", *data, "data.batch_size=64,8", f"hydra.sweep.dir={sweep}")
    code, out, err = invoke("train", *typed)
    assert code == 1
    assert "job 0 (" in err
    assert "data.batch_size=64 is more than the 36 training images" in err
    assert "Traceback" not in err
    assert "1 of 2 jobs are finished" in out
    rows = [line.split() for line in out.splitlines() if line[:3] in ("0  ", "1  ")]
    assert [(row[0], row[1], row[2]) for row in rows] == [  # the best is first
        ("1", "data.batch_size=8", "finished"),
        ("0", "data.batch_size=64", "failed"),
    ]
    assert "job 0 failed: ValueError: data.batch_size=64 is more" in out
    assert float(rows[0][3]) == pytest.approx(results(sweep / "1")["best"]["value"], abs=1e-4)
    with (sweep / "leaderboard.csv").open(newline="") as lines:
        board = {row["run"]: row for row in csv.DictReader(lines)}
    tested = results(sweep / "1")["test"]
    assert {name: float(board["1"][f"test/{name}"]) for name in tested} == tested
    assert board["0"]["status"] == "failed"
    assert "data.batch_size=64 is more" in (sweep / "leaderboard.html").read_text("utf-8")
    assert results(sweep / "0")["status"] == "failed"

    for n in range(40):  # now the data is enough for the first job
        image = folder / "train" / "cat" / "0.png"
        (folder / "train" / "cat" / f"more {n}.png").write_bytes(image.read_bytes())
    code, out, err = invoke("train", f"resume={sweep}")
    assert "job 1 (" in out, err
    assert "is finished: skipped" in out
    assert [starts(sweep / str(n)) for n in (0, 1)] == [1, 1]
    assert results(sweep / "0")["status"] == "finished"
    assert results(sweep / "0")["steps"] == 76 // 64


@pytest.mark.slow
def test_all_folds_are_one_sweep_that_pools_their_predictions(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "folds"
    data = ("data=folder", f"data.root={folder}", *SMALL, "logger=csv", "data.folds=3", "data.fold=all")
    code, out, err = invoke("train", *data, f"hydra.sweep.dir={sweep}")
    assert code == 0, err
    assert "3 of 3 jobs are finished" in out
    (content,) = json.loads((sweep / "folds.json").read_text())
    images = sorted(
        file.relative_to(folder).as_posix() for name in ("train", "val") for file in folder.glob(f"{name}/*/*")
    )
    pooled = prediction_file.of_test((sweep / content["predictions"]).parent)
    assert sorted(pooled.paths) == images
    accuracies = [results(sweep / n)["test"]["accuracy"] for n in "012"]
    assert content["metrics"]["accuracy"]["folds"] == pytest.approx(accuracies)
    assert f"3 folds, {len(images)} images, each tested once" in out
    code, out, err = invoke("evaluate", f"run={sweep / '1'}")
    assert code == 0, err
    (evaluated,) = (sweep / "1" / "evaluate").glob("*/results.json")
    assert json.loads(evaluated.read_text())["test"] == results(sweep / "1")["test"]
    code, _, err = invoke("train", f"resume={sweep / '1'}", "data.fold=2", "trainer.max_epochs=2")
    assert code == 2
    shutil.rmtree(sweep / "2")
    code, out, err = invoke("train", f"resume={sweep}")
    assert code == 0, err
    assert out.count("is finished: skipped") == 2
    assert f"3 folds, {len(images)} images" in invoke("compare", str(sweep))[1]


@pytest.mark.slow
def test_a_stopped_job_resumes_from_its_checkpoint_with_the_same_result(
    invoke: Invoke, data: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, whole = tmp_path / "sweep", tmp_path / "whole"
    elsewhere = f"data.store_cache={tmp_path / 'outside of DATA_DIR'}"
    typed = ("-m", *data, "seed=0,1", "trainer.max_epochs=2", elsewhere)
    assert invoke("train", *typed, f"hydra.sweep.dir={whole}")[0] == 0

    from fovea.callbacks.epoch_log import EpochLog

    after_an_epoch, ended = EpochLog.on_train_epoch_end, []

    def stop(self: EpochLog, trainer: object, module: object) -> None:
        after_an_epoch(self, trainer, module)  # type: ignore[arg-type]
        ended.append(1)
        if len(ended) == 3:  # the second job's first epoch
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(EpochLog, "on_train_epoch_end", stop)
    code, out, _ = invoke("train", *typed, f"hydra.sweep.dir={sweep}")
    assert code == 128 + signal.SIGTERM
    assert "1 of 2 jobs that were begun are finished" in out
    assert f"resume={sweep}" in out
    assert results(sweep / "1")["status"] == "interrupted"

    code, out, err = invoke("train", *typed, f"hydra.sweep.dir={sweep}")
    assert code == 0, err
    assert [starts(sweep / n) for n in "01"] == [1, 2]
    for n in "01":
        first, second = weights(whole / n), weights(sweep / n)
        assert all(torch.equal(first[key], second[key]) for key in first)
    code, out, _ = invoke("train", *typed, f"hydra.sweep.dir={sweep}")
    assert code == 0
    assert out.count("is finished: skipped") == 2
    code, _, err = invoke("train", f"resume={sweep}")
    assert code == 2
    assert f"{elsewhere} could run other code, or write elsewhere" in err


@pytest.mark.slow
def test_another_sweep_does_not_write_into_its_folder_and_no_secret_is_kept_in_it(
    invoke: Invoke, data: tuple[str, ...], tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    assert invoke("train", "-m", *data, "seed=0", "+my.api_key=abcdef123", f"hydra.sweep.dir={sweep}")[0] == 0
    files = [file for file in sweep.rglob("*") if file.is_file()]
    assert sweep / "multirun.yaml" in files
    assert not [file for file in files if b"abcdef123" in file.read_bytes()]
    before = (sweep / "0" / "results.json").read_bytes(), (sweep / "sweep.json").read_bytes()
    code, _, err = invoke("train", "-m", *data, "seed=1", f"hydra.sweep.dir={sweep}")
    assert code == 1
    assert "has another job's run" in err
    assert "seed=0" in err
    assert ((sweep / "0" / "results.json").read_bytes(), (sweep / "sweep.json").read_bytes()) == before
    code, _, err = invoke("train", f"resume={sweep}", "trainer.max_epochs=3")
    assert code == 2
    assert "can't be combined with" in err
    code, _, err = invoke("train", f"resume={sweep}")
    assert code == 2
    assert "the command had a secret, which is not saved" in err


@pytest.mark.parametrize("name", ["sweep.json", "0/job.json", "0/results.json"])
@pytest.mark.parametrize("text", ["", "[]", '{"number": 0}'])
def test_a_damaged_file_of_a_sweep_is_named_before_any_job(
    name: str, text: str, invoke: Invoke, tmp_path: Path
) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "sweep.json").write_text(json.dumps({"command": ["data=digits", "seed=0"]}))
    (tmp_path / "0" / "job.json").write_text(json.dumps({"number": 0, "overrides": ["data=digits", "seed=0"]}))
    (tmp_path / name).write_text(text)
    code, out, err = invoke("train", f"resume={tmp_path}")
    assert code == 2
    assert f"error: {tmp_path}/{name} is damaged" in err
    assert "job 0" not in out + err


@pytest.mark.parametrize("name", ["new.ckpt", "last.ckpt", "previous.ckpt"])
def test_a_job_resumes_from_any_checkpoint_that_resume_accepts(name: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").touch()
    assert not _can_go_on(tmp_path)
    (tmp_path / "checkpoints" / name).touch()
    assert _can_go_on(tmp_path)


@pytest.mark.slow
def test_a_refused_job_runs_once_its_config_is_corrected(
    invoke: Invoke, data: tuple[str, ...], trained: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "missing.ckpt"
    typed = ("-m", *data, "seed=0", f"weights={weights}", f"hydra.sweep.dir={tmp_path}/sweep")
    assert invoke("train", *typed)[0] == 1
    assert "no such file" in results(tmp_path / "sweep" / "0")["error"]
    shutil.copy(trained / "checkpoints" / "best.ckpt", weights)
    code, _, err = invoke("train", *typed)
    assert code == 0, err
    assert results(tmp_path / "sweep" / "0")["status"] == "finished"


@pytest.mark.slow
def test_a_run_is_evaluated_several_times(invoke: Invoke, trained: Path, tmp_path: Path) -> None:
    code, _, err = invoke("evaluate", "-m", f"run={trained}", "split=val,test", f"hydra.sweep.dir={tmp_path}/both")
    assert code == 0, err
    assert [results(tmp_path / "both" / n)["split"] for n in "01"] == ["val", "test"]


@pytest.mark.slow
def test_an_optimizing_sweep_follows_the_monitor_and_outlives_a_failed_trial(
    invoke: Invoke, data: tuple[str, ...], tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    sweep = tmp_path / "sweep"
    options = ("hydra/sweeper=optimize", "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.seed=1")
    seeded = ("-m", *data, *options, "trainer.limit_val_batches=choice(1.0,7.5)", f"hydra.sweep.dir={sweep}")
    code, out, err = invoke("train", *seeded)
    assert code == 1, err  # 7.5 is refused
    states = {n: results(sweep / str(n))["status"] for n in range(4)}
    assert set(states.values()) == {"finished", "failed"}
    best = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    values = [results(sweep / str(n))["best"]["value"] for n in states if states[n] == "finished"]
    assert best["best_value"] == pytest.approx(max(values))
    assert best["best_params"] == {"trainer.limit_val_batches": 1.0}
    code, out, _ = invoke("train", *seeded)  # the same trials are proposed again
    assert out.count("is finished: skipped") == len(values)


@pytest.mark.slow
def test_a_resumed_optimizing_sweep_runs_the_same_trials(invoke: Invoke, data: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    sweep = tmp_path / "sweep"
    options = ("hydra/sweeper=optimize", "hydra.sweeper.n_trials=2", "optimizer.lr=interval(0.001,0.1)")
    code, _, err = invoke("train", "-m", *data, *options, f"hydra.sweep.dir={sweep}")
    assert code == 0, err
    shutil.rmtree(sweep / "1")
    code, out, err = invoke("train", f"resume={sweep}")
    assert code == 0, err
    assert out.count("is finished: skipped") == 1
    assert "2 of 2 jobs are finished" in out
    shutil.rmtree(sweep / "1")
    code, out, err = invoke("train", "-m", *data, *options, f"hydra.sweep.dir={sweep}")
    assert code == 0, err
    assert out.count("is finished: skipped") == 1


@pytest.mark.slow
def test_two_ranks_of_an_optimizing_sweep_share_each_trial(
    program: Program, data: tuple[str, ...], tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    sweep = tmp_path / "sweep"
    record = tmp_path / "sitecustomize.py"  # imported by every process; records its argv
    record.write_text(
        "import json, os, sys\n"
        f"with open({str(tmp_path / 'argv.txt')!r}, 'a') as out:\n"
        "    out.write(json.dumps([os.environ.get('LOCAL_RANK', '0'), sys.orig_argv]) + '\\n')\n"
    )
    options = ("hydra/sweeper=optimize", "optimizer.lr=interval(0.001,0.1)", "hydra.sweeper.n_trials=2")
    done = program(
        *("train", "-m", *data, *options, f"hydra.sweep.dir={sweep}", "trainer.accelerator=cpu", "trainer.devices=2"),
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert sorted(file.parent.relative_to(sweep).as_posix() for file in sweep.rglob("config.yaml")) == ["0", "1"]
    assert sorted(file.relative_to(sweep).as_posix() for file in sweep.rglob("*.log")) == ["0/train.log", "1/train.log"]
    rates = [yaml.safe_load((sweep / n / "config.yaml").read_text())["optimizer"]["lr"] for n in "01"]
    assert rates[0] != rates[1]
    told = [json.loads(line) for line in (tmp_path / "argv.txt").read_text().splitlines()]
    commands = [words for rank, words in told if rank == "1" and str(PROJECT / "src" / "train.py") in words]
    assert [next(word for word in words if word.startswith("optimizer.lr=")) for words in commands] == [
        f"optimizer.lr={rate}" for rate in rates
    ]
    assert not (tmp_path / "runs").exists()  # no stray folder
    assert [starts(sweep / n) for n in "01"] == [1, 1]


def test_a_single_run_is_not_resumed_with_m(invoke: Invoke, trained: Path) -> None:
    code, _, err = invoke("train", "-m", f"resume={trained}", "trainer.max_epochs=3,4")
    assert code == 2
    assert "without -m" in err


@pytest.mark.parametrize(
    "word",
    [
        "+callbacks.x._target_=os.system",
        "callbacks.best={_target_: os.system}",
        "hydra.job_logging.handlers.x.(=os.system",
        "hydra.sweeper._target_=os.system",
        "hydra.sweeper._target_=torch.nn.Identity",
        "loss._target_=torch.nn.CrossEntropyLoss,os.system",
        "+callbacks.x={_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: out}",
        "--config-dir=/tmp",
        "+model=../../runs/evil",
        "callbacks.last.folder=/etc,/usr",
        "logger.csv.folder=~/x",
        "hydra.sweep.subdir=somewhere",
        "task_name=['/etc']",
        "logger.x.url=https://evil.example",
        "logger.wandb.name=${oc.env:HOME}",
    ],
)
def test_a_strangers_sweep_folder_runs_no_code_and_writes_nowhere_else(
    invoke: Invoke, tmp_path: Path, word: str
) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"command": ["data=digits", word]}))
    code, _, err = invoke("train", f"resume={tmp_path}")
    assert code == 2
    assert word in err
    assert "not taken from a file" in err


@pytest.mark.parametrize("words", [("experiment=seeds",), ("seed=1,2", "hydra.mode=MULTIRUN")])
@pytest.mark.slow
def test_hydra_mode_in_a_yaml_starts_a_sweep_too(words: tuple[str, ...], invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    lines = ("# @package _global_", "hydra:", "  mode: MULTIRUN", "  sweeper:", "    params:", "      seed: 1,2")
    (tmp_path / "experiment" / "seeds.yaml").write_text("\n".join(lines))
    place = (f"hydra.searchpath=['{tmp_path}']", f"hydra.sweep.dir={tmp_path}/sweep")
    code, out, _ = invoke("train", "data=folder", "data.root=", *place, *words)
    assert code == 1
    assert "0 of 2 jobs are finished" in out


@pytest.mark.parametrize(
    "word",
    [
        *("data.root='/my photos','/others'", "weights=~/w.pth", "seed=1,2", "optimizer.lr=0.1"),
        "augment.train.transforms=[{_target_: torchvision.transforms.v2.ColorJitter, brightness: 0.4}]",
        "loss._target_=torch.nn.MultiMarginLoss,torch.nn.CrossEntropyLoss",
    ],
)
def test_saved_words_that_only_set_keys_of_conf_are_accepted(word: str) -> None:
    assert not _is_unsafe(word)


def test_a_sweep_refuses_a_runs_folder(invoke: Invoke, trained: Path) -> None:
    code, _, err = invoke("train", "-m", "seed=0", f"hydra.sweep.dir={trained}", "hydra.sweep.subdir=.")
    assert code == 2
    assert f"hydra.sweep.dir={trained} has a run" in err
    assert not (trained / "sweep.json").exists()
