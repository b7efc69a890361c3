"""What asks a program to stop: Ctrl-C, a scheduler, a batch system that needs the machine, a terminal that closes."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

log = logging.getLogger(__name__)

# SIGUSR1: what SLURM is usually told to send before it takes the machine back (#SBATCH --signal=USR1@120)
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))

PATIENCE, SOON, LOOK = 60.0, 5.0, 0.2  # seconds


class Stopped(SystemExit):
    """Asked to stop; exits with 128 + the signal's number, as a shell would say it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class StopSignals:
    """Raises Stopped at a signal; where `gently`, at the second one, and the first is noted in `number`."""

    heeded = 0  # how often a handler of ours has run, in this process

    def __init__(self, gently: bool = False) -> None:
        self.gently = gently
        self.number = 0  # 0: none came
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Listen; only a process's main thread may."""
        if threading.current_thread() is threading.main_thread() and not self.before:
            self.number = 0
            heeded = (n for n in SIGNALS if n.name != "SIGHUP" or signal.getsignal(n) != signal.SIG_IGN)  # nohup's
            self.before = {number: signal.signal(number, self._heard) for number in heeded}
        return self

    def __exit__(self, *error: object) -> None:
        """What was there before holds again."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _heard(self, number: int, frame: FrameType | None) -> None:
        StopSignals.heeded += 1
        if self.number or not self.gently:
            raise Stopped(number)
        self.number = number
        log.warning("%s: stopping soon, with a checkpoint; a second one stops at once", signal.Signals(number).name)


@contextmanager
def ended_if_deaf(at_last: Callable[[], None]) -> Iterator[None]:
    """Ends the process where no handler can run, for the main thread waits for other ranks outside of Python.

    A signal has PATIENCE seconds to be heeded, one after it SOON; then `at_last` is called and the process is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(
        writer.fileno(), warn_on_full_buffer=False
    )  # written to whatever the main thread does
    threading.Thread(target=_listen, args=(reader, at_last), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()


def _listen(reader: socket.socket, at_last: Callable[[], None]) -> None:
    reader.settimeout(LOOK)
    heard, number, end, before = 0, 0, 0.0, StopSignals.heeded
    while True:
        with suppress(TimeoutError):
            byte = reader.recv(1)
            if not byte:
                return
            if byte[0] in SIGNALS:
                heard, number = heard + 1, byte[0]
                end = time.monotonic() + (PATIENCE if heard == 1 else SOON)
        if heard > StopSignals.heeded - before and time.monotonic() > end:
            at_last()
            os._exit(128 + number)
