"""Data loader workers: they ignore signals, and are stopped when the main process ends or one of them fails."""

import atexit
import signal
import weakref
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

ITERATORS: weakref.WeakSet[Any] = weakref.WeakSet()  # DataLoader iterators that may have worker processes


def iterate_workers(workers: DataLoader[Any]) -> Iterator[Any]:
    """Yield the batches; if a worker fails, stop all at once (garbage collection would wait five seconds for each)."""
    iterator = iter(workers)
    ITERATORS.add(iterator)
    try:
        yield from iterator
    except Exception:
        stop_workers(iterator)
        workers._iterator = None  # otherwise a DataLoader with persistent workers would use the stopped ones again
        raise


def ignore_signals(worker: int) -> None:
    """Ignore signals in a worker; the main process receives them too, finishes its step and stops the workers."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def stop_workers(iterator: Any) -> None:
    """Stop the worker processes of one DataLoader iterator."""
    if hasattr(iterator, "_workers"):
        iterator._shutdown_workers()
        for process in iterator._workers:
            process.kill()  # for workers that hang in a read; has no effect on ended ones


@atexit.register
def stop_all_workers() -> None:
    """Stop all workers at exit: after an error Python would send SIGTERM, which workers ignore, and wait for them."""
    for iterator in list(ITERATORS):
        stop_workers(iterator)
