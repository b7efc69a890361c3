"""Loggers get the config and the final figures of a run."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import SMALL
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger

from fovea.loggers.hyperparameters import flat, log_end, log_start
from fovea.loggers.metrics_csv import MetricsCsv

RESULTS = {"monitor": "val/accuracy", "best": {"value": 0.75}, "test": {"accuracy": 0.5}}


class Recorder(Logger):
    """Records what is logged."""

    def __init__(self) -> None:
        self.logged: list[Any] = []

    name = version = ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.logged.append(params)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.logged.append((metrics, step))


class Board(Recorder, TensorBoardLogger):
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        self.logged.append(metrics)


def test_a_config_is_flattened_to_plain_values_with_names_that_any_logger_accepts() -> None:
    config = {"a": {"b": 0.1, "c": {"é t": True}}, "betas": [0.9, 0.99], "none": None, "empty": {}}
    assert flat(config) == {"a.b": 0.1, "a.c._ t": True, "betas": "[0.9, 0.99]", "none": "None", "empty": "{}"}


def test_every_logger_gets_the_config_and_the_best_value(tmp_path: Path) -> None:
    recorder, board, table = Recorder(), Board(), MetricsCsv(str(tmp_path))
    log_start([recorder, table], {"seed": 1})
    log_end([recorder, board, table], {"seed": 1}, RESULTS, step=7)
    assert recorder.logged == [{"seed": 1}, ({"best/val/accuracy": 0.75}, 7)]
    assert board.logged == [{"final/best/val/accuracy": 0.75, "final/test/accuracy": 0.5}]
    assert not table.file.exists()  # results.json has it


def test_a_run_without_a_best_checkpoint_has_no_best_value() -> None:
    recorder = Recorder()
    log_end([recorder], {}, RESULTS | {"best": None}, step=7)
    assert recorder.logged == []


@pytest.mark.slow
def test_a_run_is_in_mlflows_database_with_its_config_tags_and_figures(
    invoke: Callable[..., Any], runs: Callable[[], list[Path]], folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mlflow")
    words = ("data=folder", f"data.root={folder}", *SMALL, "logger=[csv,mlflow]")
    code, _, err = invoke("train", *words)
    assert code == 0, err
    (run,) = runs()
    with sqlite3.connect(tmp_path / "runs" / "mlflow.db") as database:
        params, tags, metrics = (
            dict(database.execute(f"select key, value from {table}").fetchall())
            for table in ("params", "tags", "latest_metrics")
        )
    assert (params["optimizer.lr"], params["model._target_"]) == ("0.1", "fovea.models.se_resnet.SEResNet")
    assert (tags["run_folder"], tags["seed"], tags["monitor"]) == (str(run), "0", "val/accuracy")
    assert {"best/val/accuracy", "test/accuracy", "val/loss"} <= metrics.keys()
    assert invoke("evaluate", f"run={run}").code == 0  # the database in the config counts as this run's own


@pytest.mark.slow
def test_each_job_of_a_sweep_has_a_wandb_run_of_its_own_with_the_config(
    invoke: Callable[..., Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    seen = []
    monkeypatch.setenv("WANDB_MODE", "offline")
    begin = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **options: seen.append(begin(**options)) or seen[-1])
    words = ("-m", "seed=0,1", "data=folder", f"data.root={folder}", *SMALL, "logger=[csv,wandb]")
    code, _, err = invoke("train", *words, "logger.wandb.offline=true")
    wandb.finish()
    assert code == 0, err
    assert [run.config["seed"] for run in seen] == [0, 1]
    assert {str(run.config["optimizer.lr"]) for run in seen} == {"0.1"}
    assert all(run.notes.startswith(str(tmp_path)) for run in seen)
