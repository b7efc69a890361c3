import gc
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fast_composing import use_cache
from helpers import SMALL, make_folder
from hydra.core.global_hydra import GlobalHydra

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors are small here: threads cost more than they give
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C otherwise
use_cache()
gc.set_threshold(100_000, 50, 100)  # with Python's own, tests of whole programs take a fifth longer

PROJECT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests that fork ranks first: autograd refuses to work in a fork of a process in which it started threads."""
    items.sort(key=lambda item: "test_task_ddp" not in item.nodeid)


def pytest_collection_finish() -> None:
    """What is imported by now lives to the end, so garbage collections need not look at it again."""
    gc.freeze()


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def three_splits(root: Path) -> Path:
    for seed, (split, images) in enumerate({"train": 12, "val": 3, "test": 5}.items()):
        make_folder(root / split, images=images, seed=seed)
    return root


@pytest.fixture(autouse=True)
def no_workers_are_left() -> Iterator[None]:
    """Stop a test's workers: a garbage collection in a later test would wait ten seconds for each."""
    yield
    from fovea.data.loading.workers import stop_all_workers  # here, because xdist's main process needs no torch

    stop_all_workers()


@pytest.fixture(scope="session")
def folder_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/, val/ and test/ of three classes, which tests copy: copying is faster than encoding."""
    return three_splits(tmp_path_factory.mktemp("images"))


@pytest.fixture
def folder(folder_once: Path, tmp_path: Path) -> Path:
    """A copy of that folder, with a space and an accent in its name."""
    return Path(shutil.copytree(folder_once, tmp_path / "mes données"))


def in_this_process(name: str, *arguments: str) -> int:
    """Run `src/<name>.py` with a command line, and say its exit code; argv and environment are left as they were."""
    script, argv, before = str(PROJECT / "src" / f"{name}.py"), sys.argv, dict(os.environ)
    print("$", shlex.join([script, *arguments]))
    GlobalHydra.instance().clear()
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(before)
    return 0


@pytest.fixture
def invoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs `src/<name>.py` with a command line, in this process; run folders go to `<tmp_path>/runs`."""
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("IMAGENET_DIR", "")
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the disk may take its time: nobody pulls the plug here
    return lambda name, *arguments: Outcome(in_this_process(name, *arguments), *capfd.readouterr())


@pytest.fixture(scope="session")
def trained_once(folder_once: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(run folder, data folder) of a short training."""
    place = tmp_path_factory.mktemp("trained")
    data = Path(shutil.copytree(folder_once, place / "mes données"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNS_DIR", str(place / "runs"))
        assert in_this_process("train", "data=folder", f"data.root={data}", *SMALL, "report=true") == 0
    (log,) = (place / "runs").rglob("train.log")
    return log.parent, data


@pytest.fixture
def trained(trained_once: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of that run's folder, in a place of its own."""
    return Path(shutil.copytree(trained_once[0], tmp_path / "runs" / "train" / "first"))


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `src/<name>.py` as a person would: a process of its own, in an empty folder."""

    def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROJECT / "src" / f"{name}.py"), *arguments]
        own = {"RUNS_DIR": str(tmp_path / "runs"), "DATA_DIR": str(tmp_path / "data"), "IMAGENET_DIR": ""}
        print("$", shlex.join(command))
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | own | environment, capture_output=True, text=True, timeout=300
        )
        print(done.stdout[-6000:], done.stderr[-6000:])
        return done

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[], list[Path]]:
    """The run folders so far, in the order of their starts; the ids of runs of one second are random."""

    def start(log: Path) -> tuple[str, int]:
        return re.sub(r"_[0-9a-f]{6}$", "", str(log.parent)), log.stat().st_mtime_ns

    return lambda: [log.parent for log in sorted((tmp_path / "runs").rglob("train.log"), key=start)]
