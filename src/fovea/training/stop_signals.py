"""Handles the signals that ask a program to stop: from Ctrl-C, a job scheduler, or a terminal that is closed."""

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

# SIGUSR1: usually sent by SLURM before a job's time limit (#SBATCH --signal=USR1@120)
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))

# seconds until a blocked process is ended, after the first and after a further signal; and between checks
PATIENCE, SHORT_PATIENCE, INTERVAL = 60.0, 5.0, 0.2


class Stopped(SystemExit):
    """Raised to stop after a signal; the exit code is 128 + the signal's number, as in a shell."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class StopSignals:
    """Raises Stopped at a signal. If `graceful`, the first signal only sets `number`, and the second one raises."""

    handled = 0  # signals that a handler of this class has handled in this process

    def __init__(self, graceful: bool = False) -> None:
        self.graceful = graceful
        self.number = 0  # 0: no signal yet
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Install the handlers, if this is the main thread; others may not."""
        if threading.current_thread() is threading.main_thread() and not self.before:
            self.number = 0
            under_nohup = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            numbers = (number for number in SIGNALS if number.name != "SIGHUP" or not under_nohup)
            self.before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the handlers from before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        StopSignals.handled += 1
        if self.number or not self.graceful:
            raise Stopped(number)
        self.number = number
        log.warning("%s: stopping soon, with a checkpoint; a second signal stops at once", signal.Signals(number).name)


@contextmanager
def exit_if_blocked(before_exit: Callable[[], None]) -> Iterator[None]:
    """End the process if a signal's handler can't run because the main thread is blocked outside of Python.

    This happens while a rank waits for other ranks. If no handler has run PATIENCE seconds after a signal, or
    SHORT_PATIENCE seconds after a further one, `before_exit` is called and the process exits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    # Python writes a signal's number to this socket even while the main thread is blocked.
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, before_exit), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()


def _watch(reader: socket.socket, before_exit: Callable[[], None]) -> None:
    reader.settimeout(INTERVAL)
    received, number, deadline, handled_before = 0, 0, 0.0, StopSignals.handled
    while True:
        with suppress(TimeoutError):
            byte = reader.recv(1)
            if not byte:
                return
            if byte[0] in SIGNALS:
                received, number = received + 1, byte[0]
                deadline = time.monotonic() + (PATIENCE if received == 1 else SHORT_PATIENCE)
        if received > StopSignals.handled - handled_before and time.monotonic() > deadline:
            before_exit()
            os._exit(128 + number)
