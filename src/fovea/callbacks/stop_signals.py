"""What asks a program to stop: Ctrl-C, a scheduler, a batch system that needs the machine."""

import logging
import signal
import threading
from types import FrameType
from typing import Any, Self

log = logging.getLogger(__name__)

# SIGUSR1: what SLURM is usually told to send before it takes the machine back (#SBATCH --signal=USR1@120)
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Stopped(SystemExit):
    """Asked to stop; exits with 128 + the signal's number, as a shell would say it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class StopSignals:
    """Raises Stopped at a signal; where `gently`, at the second one, and the first is noted in `number`."""

    def __init__(self, gently: bool = False) -> None:
        self.gently = gently
        self.number = 0  # 0: none came
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Listen; only a process's main thread may."""
        if threading.current_thread() is threading.main_thread() and not self.before:
            self.number = 0
            self.before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        """What was there before holds again."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.number or not self.gently:
            raise Stopped(number)
        self.number = number
        log.warning("%s: stopping soon, with a checkpoint; a second one stops at once", signal.Signals(number).name)
