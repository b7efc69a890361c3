"""Faults caused for real: killed loaders, data that vanishes, full and read-only disks, loggers out of reach."""

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers import SMALL
from lightning import Callback

from fovea.callbacks.epoch_log import EpochLog
from fovea.config.resolvers import PROJECT

Invoke = Callable[..., tuple[int, str, str]]
Runs = Callable[[], list[Path]]
AtEpoch = Callable[[int, Callable[[], object]], None]


@pytest.fixture
def data(folder: Path) -> tuple[str, ...]:
    return ("data=folder", f"data.root={folder}", *SMALL, "logger=csv", "trainer.max_epochs=4")


@pytest.fixture
def after_epoch(monkeypatch: pytest.MonkeyPatch) -> AtEpoch:
    """Lets something happen once, while the epoch after the n-th is being trained."""

    def arrange(epoch: int, act: Callable[[], object]) -> None:
        done: list[int] = []

        def hook(self: Callback, trainer: object, module: object, batch: object, batch_idx: int) -> None:
            if trainer.current_epoch == epoch and not done:  # type: ignore[attr-defined]
                done.append(1)
                act()

        monkeypatch.setattr(EpochLog, "on_train_batch_start", hook)

    return arrange


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def loaders() -> list[int]:
    """Process ids of this one's children."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.slow
def test_a_killed_loader_process_is_told_in_few_lines_and_the_run_goes_on_from_its_checkpoint(
    invoke: Invoke, runs: Runs, data: tuple[str, ...], after_epoch: AtEpoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = set(loaders())
    after_epoch(1, lambda: [os.kill(pid, signal.SIGKILL) for pid in set(loaders()) - others])
    code, _, err = invoke("train", *data, "data.num_workers=2")
    assert code == 1, err
    assert re.search(r"a data loader worker (was killed \(signal 9\)|ended unexpectedly): out of memory", err)
    assert "lower data.num_workers or data.batch_size" in err
    assert "Traceback" not in err
    (run,) = runs()
    assert results(run)["status"] == "failed"
    assert "a data loader worker" in results(run)["error"]
    monkeypatch.undo()
    assert invoke("train", f"resume={run}", "data.num_workers=0")[0] == 0
    assert (results(run)["status"], results(run)["epochs"]) == ("finished", 4)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("num_workers", "on_error"),
    [(2, "skip"), pytest.param(0, "skip", marks=SLOW), *(pytest.param(n, "raise", marks=SLOW) for n in (0, 2))],
)
@pytest.mark.slow
def test_a_data_folder_that_vanishes_stops_the_run_and_is_named(
    invoke: Invoke,
    runs: Runs,
    data: tuple[str, ...],
    folder: Path,
    after_epoch: AtEpoch,
    num_workers: int,
    on_error: str,
) -> None:
    after_epoch(1, lambda: (folder / "train").rename(folder / "away"))
    code, _, err = invoke("train", *data, f"data.num_workers={num_workers}", f"data.on_error={on_error}")
    assert code == 2, err
    assert f"The folder {folder / 'train'} does not exist any more" in err
    assert ".png: No such file or directory" in err
    (run,) = runs()
    assert results(run)["status"] == "failed"
    assert (run / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=SLOW)])
def test_a_file_that_vanishes_or_becomes_garbage_is_left_out_or_named(
    invoke: Invoke, runs: Runs, data: tuple[str, ...], folder: Path, after_epoch: AtEpoch, num_workers: int
) -> None:
    garbage, gone = folder / "train/dog/3.png", folder / "train/dog/4.png"
    before = garbage.read_bytes()

    def spoil() -> None:
        garbage.write_bytes(b"garbage")
        gone.unlink(missing_ok=True)

    after_epoch(1, spoil)
    data = (*data, "trainer.max_epochs=3")
    options = (*data, "data.batch_size=36", f"data.num_workers={num_workers}")
    assert invoke("train", *options, "data.on_error=skip")[0] == 0
    assert results(runs()[0])["unreadable"] == [str(garbage), str(gone)]
    garbage.write_bytes(before)
    after_epoch(1, spoil)
    code, _, err = invoke("train", *data, "data.batch_size=35", f"data.num_workers={num_workers}")
    assert code == 2, err
    assert str(garbage) in err
    assert results(runs()[1])["status"] == "failed"
    assert str(garbage) in results(runs()[1])["error"]


def test_an_epoch_without_one_readable_image_is_no_training(
    invoke: Invoke, runs: Runs, data: tuple[str, ...], folder: Path, after_epoch: AtEpoch
) -> None:
    after_epoch(1, lambda: [file.write_bytes(b"garbage") for file in (folder / "train").rglob("*.png")])
    code, _, err = invoke("train", *data, "data.on_error=skip", "data.num_workers=0")
    assert code == 2, err
    assert "epoch 2: none of the 32 images could be read" in err
    assert results(runs()[0])["status"] == "failed"


def test_a_validation_without_one_readable_image_has_no_figures(
    invoke: Invoke, runs: Runs, data: tuple[str, ...], folder: Path
) -> None:
    for file in (folder / "val").rglob("*.png"):
        file.write_bytes(b"garbage")
    code, _, err = invoke("train", *data, "data.on_error=skip", "monitor=val/loss")
    assert code == 2, err
    assert "val: none of its images could be read, so there are no figures" in err
    assert results(runs()[0])["status"] == "failed"
    assert not (runs()[0] / "checkpoints" / "best.ckpt").exists()


@pytest.mark.slow
def test_tensorboard_that_cannot_write_does_not_stop_the_run(
    invoke: Invoke, runs: Runs, folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "run"
    run.mkdir(parents=True)
    (run / "tensorboard").write_text("a file where the folder should be")
    data = ("data=folder", f"data.root={folder}", *SMALL, f"hydra.run.dir={run}")
    code, _, err = invoke("train", *data)
    assert code == 0, err
    assert results(run)["status"] == "finished"
    log = (run / "train.log").read_text()
    assert log.count("the logger TensorBoard failed, so the run continues without it") == 1
    assert len(list(csv.DictReader((run / "metrics.csv").open()))) >= 1


@pytest.mark.slow
def test_a_service_out_of_reach_does_not_stop_the_run(
    invoke: Invoke, runs: Runs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb").teardown()  # it keeps the settings of an earlier test in this process
    for name, value in {"BASE_URL": "http://127.0.0.1:9", "API_KEY": "0" * 40, "MODE": "online"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    words = ("data=folder", f"data.root={folder}", *SMALL, "logger=[csv,wandb]", "logger.wandb.settings.init_timeout=3")
    code, _, err = invoke("train", *words)
    assert code == 0, err
    (run,) = runs()
    assert results(run)["status"] == "finished"
    assert (run / "train.log").read_text().count("the logger WandbLogger failed, so the run continues without it") == 1
    assert list(csv.DictReader((run / "metrics.csv").open()))


def limited(place: Path, size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`train.py` in a process that can't write files larger than `size` bytes, as on a disk that is full."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        [sys.executable, str(PROJECT / "src" / "train.py"), *arguments],
        env=os.environ | {"RUNS_DIR": str(place / "runs"), "IMAGENET_DIR": ""},
        preexec_fn=limit,
        cwd=place,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
def test_a_full_disk_is_told_and_what_was_saved_before_is_whole(
    invoke: Invoke, runs: Runs, trained: Path, tmp_path: Path
) -> None:
    last = trained / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    done = limited(tmp_path, last.stat().st_size // 2, f"resume={trained}", "trainer.max_epochs=3", "logger=csv")
    assert done.returncode == 2, done.stderr
    assert "the checkpoint could not be written (File too large)" in done.stderr
    assert "Free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert results(trained)["status"] == "failed"
    assert last.read_bytes() == before
    assert torch.load(last, weights_only=True)["global_step"] == 4
    code, _, err = invoke("train", f"resume={trained}", "trainer.max_epochs=3")
    assert code == 0, err
    assert results(trained)["epochs"] == 3


@pytest.mark.parametrize("end", [ValueError("the first error"), SystemExit(143)])
def test_results_that_cannot_be_written_do_not_hide_the_error_or_the_stop(
    end: BaseException, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fovea.runs import run_folder

    def full(file: Path, content: object) -> None:
        raise OSError(28, "No space left on device", str(file))

    kept = run_folder.Results(tmp_path, "val/loss", writes=True)
    with pytest.raises(type(end)) as raised, kept.status():
        monkeypatch.setattr(run_folder, "write_json", full)
        raise end
    assert raised.value is end
    assert "results.json can't be written: No space left on device" in caplog.text


@pytest.mark.parametrize("program", ["train", "rerun", "evaluate"])
def test_nothing_is_put_into_the_folder_of_another_run(
    program: str, invoke: Invoke, trained: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    there = Path(shutil.copytree(trained, tmp_path / "another"))
    before = {file: file.read_bytes() for file in there.rglob("*") if file.is_file()}
    name, *words = {
        "train": ("train", *data),
        "rerun": ("train", f"rerun={trained}"),
        "evaluate": ("evaluate", f"run={trained}"),
    }[program]
    code, _, err = invoke(name, *words, f"hydra.run.dir={there}")
    assert code == 2
    assert f"hydra.run.dir={there} has a run already" in err
    assert (f"resume={there}" in err) == (program == "train")
    assert {file: file.read_bytes() for file in before} == before


@pytest.fixture
def read_only(trained: Path) -> Iterator[Path]:
    """A run's folder, mounted so that nothing in it can be written to."""
    bind = ["mount", "--bind", str(trained), str(trained)]
    if os.geteuid() != 0 or subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("only root can mount")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(trained)], check=True)
    yield trained
    subprocess.run(["umount", str(trained)], check=True)


@pytest.mark.slow
def test_a_read_only_run_is_refused_before_torch_is_loaded_or_evaluated_elsewhere(
    invoke: Invoke, read_only: Path, tmp_path: Path
) -> None:
    code, _, err = invoke("train", f"resume={read_only}")
    assert code == 2
    assert f"this folder can't be written to: {read_only}" in err
    code, _, err = invoke("evaluate", f"run={read_only}")
    assert code == 2
    assert "Read-only file system" in err
    assert "hydra.run.dir=<a folder elsewhere>" in err
    assert len(err.splitlines()) <= 10
    code, _, err = invoke("evaluate", f"run={read_only}", f"hydra.run.dir={tmp_path}/elsewhere")
    assert code == 0, err
    assert results(tmp_path / "elsewhere")["split"] == "test"
