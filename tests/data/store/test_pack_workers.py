import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fovea.data.store.pack_workers import count_image, run_jobs


def square(n: int) -> int:
    count_image()
    return n * n


def killed(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def fails(n: int) -> int:
    raise ValueError(f"{n} failed")


def waits(file: Path) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.parametrize("processes", [0, 2])
def test_every_job_is_done_and_counted(processes: int) -> None:
    reports: list[int] = []
    assert sorted(run_jobs(square, range(20), processes, reports.append)) == [n * n for n in range(20)]
    assert reports == sorted(reports)
    assert reports[-1] == 20


def test_only_a_few_jobs_are_read_ahead() -> None:
    taken: list[int] = []
    jobs = (taken.append(n) or n for n in range(100))
    results = run_jobs(square, jobs, 2, lambda done: None)
    next(results)
    assert len(taken) < 20
    results.close()  # type: ignore[attr-defined]


def test_a_killed_process_is_an_error_without_delay() -> None:
    with pytest.raises(ValueError, match="was killed"):
        list(run_jobs(killed, range(10), 2, lambda done: None))


@pytest.mark.parametrize("processes", [0, 2])
def test_an_error_in_a_job_is_raised(processes: int) -> None:
    with pytest.raises(ValueError, match="failed"):
        list(run_jobs(fails, range(10), processes, lambda done: None))


def test_processes_exit_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = os.fork()
    if parent == 0:
        list(run_jobs(waits, [tmp_path / "a", tmp_path / "b"], 2, lambda done: None))
    workers = [int(until(partial(read, tmp_path / name))) for name in "ab"]
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert until(lambda: not any(alive(worker) for worker in workers))


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until `condition()` is true and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def alive(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
