"""Jobs over several processes, which end with the one that started them, however it ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")
EVERY = 0.2  # seconds between two looks at how far the jobs are

_steps: Any = None  # counts over all processes


def step() -> None:
    """A job says that it has done one image more."""
    with _steps.get_lock():
        _steps.value += 1


def spread(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int, tell: Callable[[int], None]
) -> Iterator[Result]:
    """What `work` says of each job, in the order in which they get done; 0 processes: in this one.

    Args:
        jobs: taken up a few at a time, so they may be many.
        tell: is given the steps that all jobs together have taken so far.

    Raises:
        ValueError: a process was killed.
    """
    global _steps
    steps = _steps = multiprocessing.Value("q")
    if not processes:
        for job in jobs:
            yield work(job)
            tell(steps.value)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, initializer=_begin, initargs=(steps,))
    try:
        yield from _all_of(pool, work, iter(jobs), 2 * processes, lambda: tell(steps.get_obj().value))
    except BrokenProcessPool as error:
        raise ValueError(
            "one of the processes was killed, perhaps for want of memory: run this again, with a smaller num_workers"
        ) from error
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        pool.shutdown(cancel_futures=True)


def _all_of(
    pool: ProcessPoolExecutor,
    work: Callable[[Job], Result],
    jobs: Iterator[Job],
    at_once: int,
    tell: Callable[[], None],
) -> Iterator[Result]:
    running: set[Future[Result]] = set()
    while True:
        for job in jobs:
            running.add(pool.submit(work, job))
            if len(running) >= at_once:
                break
        if not running:
            return
        done, running = wait(running, timeout=EVERY, return_when=FIRST_COMPLETED)
        tell()
        for one in done:
            yield one.result()


def _begin(steps: Any) -> None:
    """In a new process: Ctrl-C is its parent's to answer, and it ends with its parent."""
    global _steps
    _steps = steps
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
