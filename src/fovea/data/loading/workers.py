"""Loader processes: they leave signals to the main process, and end when it is through with them, however that is."""

import atexit
import signal
import weakref
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

OPEN: weakref.WeakSet[Any] = weakref.WeakSet()  # the iterators that have processes


def from_workers(workers: DataLoader[Any]) -> Iterator[Any]:
    """What they make. Where one fails all are ended: the garbage collector would wait five seconds for each."""
    made = iter(workers)
    OPEN.add(made)
    try:
        yield from made
    except Exception:
        end(made)
        workers._iterator = None  # persistent ones would be asked again
        raise


def leave_signals(worker: int) -> None:
    """To the main process, which is sent them too, finishes its step, and ends its workers."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def end(made: Any) -> None:
    """The processes of one iterator."""
    if hasattr(made, "_workers"):
        made._shutdown_workers()
        for process in made._workers:
            process.kill()  # one that hangs in a read; of those that have ended there is none to kill


@atexit.register
def end_all() -> None:
    """Before Python's own end, which sends SIGTERM and waits: after an error within an epoch they are still there."""
    for made in list(OPEN):
        end(made)
