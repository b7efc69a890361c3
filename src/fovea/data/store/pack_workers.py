"""Runs jobs in several processes, which stop when the process that started them stops or is killed."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any, TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")
INTERVAL = 0.2  # seconds between two progress reports

_counter: Any = None  # images done, shared by all processes
_shared: Any = None  # what all jobs use


def count_image() -> None:
    """Called by a job after each image that is done."""
    with _counter.get_lock():
        _counter.value += 1


def shared_object() -> Any:
    """Return the `shared` argument of `run_jobs`; called by a job."""
    return _shared


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    processes: int,
    report: Callable[[int], None],
    shared: Any = None,
) -> Iterator[Result]:
    """Yield `work(job)` of each job as soon as it is done; with 0 processes, run the jobs in this process.

    Args:
        jobs: read a few at a time, so there may be many.
        report: called with the number of images that all jobs together have done so far.
        shared: what all jobs use, see `shared_object`; each process gets it once.

    Raises:
        ValueError: a process was killed.
    """
    global _counter, _shared
    counter = _counter = multiprocessing.Value("q")
    if not processes:
        _shared = shared
        for job in jobs:
            yield work(job)
            report(counter.value)
        _shared = None
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, initializer=_initialize, initargs=(counter, shared))
    try:
        yield from _run_in_pool(pool, work, iter(jobs), 2 * processes, lambda: report(counter.get_obj().value))
    except BrokenProcessPool as error:
        raise ValueError(
            "one of the processes was killed, possibly for lack of memory: run this again with a smaller num_workers"
        ) from error
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        pool.shutdown(cancel_futures=True)


def _run_in_pool(
    pool: ProcessPoolExecutor,
    work: Callable[[Job], Result],
    jobs: Iterator[Job],
    max_running: int,
    report: Callable[[], None],
) -> Iterator[Result]:
    running: set[Future[Result]] = set()
    while True:
        for job in jobs:
            with _interrupts_blocked():
                running.add(pool.submit(work, job))
            if len(running) >= max_running:
                break
        if not running:
            return
        done, running = wait(running, timeout=INTERVAL, return_when=FIRST_COMPLETED)
        report()
        for future in done:
            yield future.result()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C for processes that start in this context; they inherit this until they ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _initialize(counter: Any, shared: Any) -> None:
    """Set up a new process: it ignores Ctrl-C, which its parent handles, and exits when its parent does."""
    global _counter, _shared
    _counter, _shared = counter, shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()


def _exit_with_parent(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
