import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fovea.data.store.pack_workers import spread, step


def square(n: int) -> int:
    step()
    return n * n


def killed(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def refused(n: int) -> int:
    raise ValueError(f"{n} is no good")


def waits(file: Path) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.parametrize("processes", [0, 2])
def test_every_job_is_done_and_counted(processes: int) -> None:
    told: list[int] = []
    assert sorted(spread(square, range(20), processes, told.append)) == [n * n for n in range(20)]
    assert told == sorted(told)
    assert told[-1] == 20


def test_jobs_are_taken_up_a_few_at_a_time() -> None:
    taken: list[int] = []
    jobs = (taken.append(n) or n for n in range(100))
    results = spread(square, jobs, 2, lambda done: None)
    next(results)
    assert len(taken) < 20
    results.close()  # type: ignore[attr-defined]


def test_a_killed_process_is_said_and_nobody_waits() -> None:
    with pytest.raises(ValueError, match="was killed"):
        list(spread(killed, range(10), 2, lambda done: None))


@pytest.mark.parametrize("processes", [0, 2])
def test_an_error_is_its_own(processes: int) -> None:
    with pytest.raises(ValueError, match="is no good"):
        list(spread(refused, range(10), processes, lambda done: None))


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    parent = os.fork()
    if parent == 0:
        list(spread(waits, [tmp_path / "a", tmp_path / "b"], 2, lambda done: None))
    workers = [int(until(partial(said, tmp_path / name))) for name in "ab"]
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert until(lambda: not any(alive(worker) for worker in workers))


def until(true: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `true()` says, as soon as it is that."""
    end = time.monotonic() + seconds
    while not (answer := true()) and time.monotonic() < end:
        time.sleep(0.02)
    return answer


def said(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def alive(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
