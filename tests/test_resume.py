"""A run that is stopped anywhere and resumed ends as the uninterrupted one does, bit for bit."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conf_groups import GROUPS
from helpers import make_folder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fovea.config.resolvers import PROJECT
from fovea.runs.bit_differences import differences
from fovea.task import ClassificationTask
from fovea.training.save_last import SaveLast

Invoke = Callable[..., Any]
TINY = (
    "data=folder",
    "data.image_size=16",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=1",
    "checkpoint.every_n_steps=1",
    "seed=3",
)
DROPOUT = ("model=mobilenet_v2", "model.width_mult=0.25")
NO_DROPOUT = ("model=se_resnet_small", "model.width=4")  # with 40 % fewer tensors
TIMED = ("images_per_second", "seconds")


def tensors(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested containers, with where it stands."""
    if isinstance(value, dict):
        for key in value:
            yield from tensors(value[key], f"{place}/{key}")
    elif isinstance(value, list | tuple):
        for key, item in enumerate(value):
            yield from tensors(item, f"{place}/{key}")
    else:
        yield place, value


def state(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    """What a checkpoint holds, but for what tells the time or the place."""
    content = torch.load(run / "checkpoints" / name, weights_only=True)
    own = (
        "config",
        "val_loop",  # how many batches were validated says nothing of the training
        "_path",
        "dirpath",
        "best_k_models",
        "time_elapsed",
        *TIMED,
    )
    return {place: value for place, value in tensors(content) if not any(word in place for word in (*own, str(run)))}


def same(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The places that differ."""
    assert first.keys() == second.keys()
    return [place for place, value in first.items() if not equal(value, second[place])]


def equal(first: Any, second: Any) -> bool:
    both = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    return torch.equal(first, second) if both else bool(first == second)


def curves(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as lines:
        return [{k: v for k, v in row.items() if not any(word in k for word in TIMED)} for row in csv.DictReader(lines)]


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run / "tensorboard"), {"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not any(word in tag for word in TIMED)]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def figures(run: Path) -> dict[str, Any]:
    results = json.loads((run / "results.json").read_text())
    return {key: results[key] for key in ("status", "best", "test", "epochs", "steps")}


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    root = make_folder(tmp_path / "données" / "train", images=11)
    make_folder(tmp_path / "données" / "val", images=3, seed=1)
    return root.parent


def assert_same(first: Path, second: Path) -> None:
    assert same(state(first), state(second)) == []
    assert same(state(first, "best.ckpt"), state(second, "best.ckpt")) == []
    assert curves(first) == curves(second)
    assert scalars(first) == scalars(second)
    assert figures(first) == figures(second)


ALL = (
    "mixing=mixup_cutmix",
    "callbacks=[default,ema,swa,early_stopping]",
    "callbacks.swa.after_step=2",
    "callbacks.swa.every_n_steps=2",
    "trainer.accumulate_grad_batches=2",
    "scheduler=one_cycle",
)
GROWING = (
    *("data.progressive.start=8", "data.progressive.step=4", "data.progressive.batch_size=4"),
    "data.progressive.epochs=1",
)
KINDS = {
    "plain": (),
    "mixing, averaged weights, accumulation, a schedule per step": ALL,
    "plateau, early stopping, momentum": (
        "scheduler=plateau",
        "scheduler.patience=0",
        "callbacks=[default,early_stopping]",
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=1.0",
        "optimizer=adamw",
    ),
    "validation within the epoch": ("trainer.val_check_interval=2", "scheduler=plateau", "scheduler.patience=0"),
    "validation every second epoch": (
        "trainer.check_val_every_n_epoch=2",
        "scheduler=plateau",
        "scheduler.patience=0",
        "trainer.max_epochs=4",
    ),
    "growing images and batches, validation within the epoch": (
        *GROWING,
        "data.progressive.epochs=2",
        "trainer.val_check_interval=0.5",
        "trainer.accumulate_grad_batches=2",
        "scheduler=one_cycle",
    ),
    "max_steps": ("trainer.max_steps=9", "trainer.max_epochs=-1", "scheduler=warmup_cosine"),
}


@pytest.fixture
def train_and_keep(
    invoke: Invoke, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Path, list[Path]]]:
    """Trains; (its folder, copies of it after each save, as a kill would leave it then)."""

    def run(*words: str) -> tuple[Path, list[Path]]:
        kept: list[Path] = []

        def save_and_keep(self: SaveLast, *arguments: Any) -> None:
            save(self, *arguments)
            kept.append(Path(shutil.copytree(self.file.parents[1], tmp_path / f"kept_{len(kept)}")))

        with monkeypatch.context() as patch:
            save = SaveLast._write
            patch.setattr(SaveLast, "_write", save_and_keep)
            words = (*TINY, f"data.root={small_data}", *words, f"hydra.run.dir={tmp_path}/whole")
            assert invoke("train", *words).code == 0
        return tmp_path / "whole", kept

    return run


def test_a_run_killed_anywhere_and_resumed_with_other_workers_ends_as_the_uninterrupted_one(
    train_and_keep: Callable[..., tuple[Path, list[Path]]], invoke: Invoke
) -> None:
    whole, kept = train_and_keep(*NO_DROPOUT, *ALL, *GROWING, "trainer.max_epochs=2")
    for run, workers in ((kept[1], 0), (kept[-2], 3)):
        assert invoke("train", f"resume={run}", f"data.num_workers={workers}").code == 0
        assert_same(whole, run)


@pytest.mark.slow
def test_a_run_killed_after_its_last_step_logs_its_test_where_the_uninterrupted_one_does(
    train_and_keep: Callable[..., tuple[Path, list[Path]]], invoke: Invoke
) -> None:
    whole, kept = train_and_keep(
        *DROPOUT, "trainer.max_steps=5", "trainer.max_epochs=-1", "checkpoint.every_n_steps=null"
    )
    assert invoke("train", f"resume={kept[-1]}").code == 0
    assert_same(whole, kept[-1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_checkpoint_leads_to_the_same_end(
    kind: str, train_and_keep: Callable[..., tuple[Path, list[Path]]], invoke: Invoke
) -> None:
    whole, kept = train_and_keep(*DROPOUT, *KINDS[kind])
    assert len(kept) > 6
    for run in kept:
        assert invoke("train", f"resume={run}").code == 0
        assert_same(whole, run)


OBJECTIVES = {
    "distillation": ("objective=distillation", "objective.teacher="),
    "hard_distillation": ("objective=hard_distillation", "objective.teacher="),
    "r_drop": ("objective=r_drop",),
    "sam": ("objective=sam",),
}


def test_every_objective_is_resumed_in_a_test() -> None:
    assert {*OBJECTIVES, "supervised"} == {*GROUPS["objective"]}  # all other tests have the supervised one


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_with_another_objective_is_resumed_exactly_and_evaluated_without_its_teacher(
    name: str, train_and_keep: Callable[..., tuple[Path, list[Path]]], invoke: Invoke, small_data: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "the teacher"
    more = (*NO_DROPOUT, "trainer.max_epochs=1", "report=false", f"hydra.run.dir={teacher}")
    assert invoke("train", *TINY, *more, f"data.root={small_data}").code == 0
    words = [f"{word}{teacher}" if word.endswith("teacher=") else word for word in OBJECTIVES[name]]
    whole, kept = train_and_keep(*DROPOUT, *words, "trainer.accumulate_grad_batches=2", "on_nan=skip")
    for run in (kept[1], kept[-2]):
        assert invoke("train", f"resume={run}").code == 0
        assert_same(whole, run)
    shutil.rmtree(teacher)
    assert invoke("evaluate", f"run={whole}").code == 0


@pytest.mark.parametrize(
    ("place", "number", "step"),
    [
        ("validation_step", signal.SIGUSR1, 4),
        pytest.param("training_step", signal.SIGTERM, 7, marks=pytest.mark.slow),
    ],
)
def test_a_signal_is_heeded_with_a_checkpoint_a_status_and_an_exit_code_and_costs_nothing(
    place: str,
    number: int,
    step: int,
    invoke: Invoke,
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = (*TINY, *NO_DROPOUT, "checkpoint.every_n_steps=null", f"data.root={small_data}", "trainer.max_epochs=2")
    assert invoke("train", *words, f"hydra.run.dir={tmp_path}/whole").code == 0
    whole = getattr(ClassificationTask, place)

    def asked_to_stop(self: ClassificationTask, batch: Any, batch_idx: int) -> Any:
        if self.global_step == (6 if place == "training_step" else 4) and batch_idx < 3:
            signal.raise_signal(number)
        return whole(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, place, asked_to_stop)
        assert invoke("train", *words, f"hydra.run.dir={tmp_path}/stopped").code == 128 + number
    stopped = tmp_path / "stopped"
    assert json.loads((stopped / "results.json").read_text())["status"] == "interrupted"
    assert torch.load(stopped / "checkpoints/last.ckpt", weights_only=True)["global_step"] == step
    assert invoke("train", f"resume={stopped}").code == 0
    assert_same(tmp_path / "whole", stopped)


@pytest.mark.slow
def test_two_ranks_that_are_killed_and_resumed_end_as_the_uninterrupted_ones(
    program: Callable[..., Any], small_data: Path, tmp_path: Path
) -> None:
    words = (
        *TINY,
        *DROPOUT,
        f"data.root={small_data}",
        *ALL,
        "data.progressive.batch_size=16",
        "data.progressive.epochs=5",
        "trainer=cpu",
        "trainer.devices=2",
        "trainer.max_epochs=15",
    )
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert program("train", *words, f"hydra.run.dir={whole}").returncode == 0
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *words, f"hydra.run.dir={run}"]
    with subprocess.Popen(command, start_new_session=True, cwd=tmp_path) as killed:
        while killed.poll() is None and not (run / "checkpoints" / "previous.ckpt").exists():
            time.sleep(0.01)
        os.killpg(killed.pid, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert json.loads((run / "results.json").read_text())["status"] == "running"
    assert program("train", f"resume={run}").returncode == 0
    assert_same(whole, run)
    assert differences(whole, run) == []
