"""The processes of one run (its ranks): an error of one is told once and ends all, and none outlives the others.

Rank 0 is the process that was typed; Lightning starts the others. A rank that fails leaves a report in the run's
folder; rank 0 looks for the report that explains its own failure, tells it, and ends what is left. Where another
launcher starts all of them, torchrun or srun, it ends what is left, and a rank tells its own error.
"""

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from fovea.distributed.failure_report import FIRST, is_consequence, report_of, reports_in
from fovea.distributed.rank import BEGAN
from fovea.error_text import OtherRankError

log = logging.getLogger(__name__)

LOOK = 0.3  # seconds between two looks at the other processes
REPORTS = 10  # seconds that rank 0 waits for the report of what made it fail
HANGS = 20  # seconds after a rank's death, or report, until rank 0, that hasn't noticed, is ended too
STARTS = 3  # the same after one that was asked to stop before it listened: rank 0 was too, and may wait for it in vain
ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
LEAVE = 30  # seconds that the others have to end after rank 0 has


@contextmanager
def together(folder: Path, ended: Callable[..., None] = lambda **values: None) -> Iterator[None]:
    """One job of however many processes; afterwards their group and its variables are gone, for a sweep's next job.

    Args:
        folder: of the run, where ranks leave their reports.
        ended: notes the run's `status`, and an `error`, where rank 0 hangs and can't go on itself.

    Raises:
        OtherRankError: another rank failed first, or was killed.
    """
    before = dict(os.environ)
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    try:
        with _another(folder, rank) if rank else _first(folder, ended):
            yield
            _leave_group()
    finally:
        os.environ.clear()
        os.environ.update(before)


def check_world(world_size: int) -> None:
    """Raises ValueError where a launcher started more processes than train together: each would train alone."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > world_size:
        raise ValueError(
            f"{started} processes were started (WORLD_SIZE) and {world_size} would train together, the others each "
            f"alone: type trainer.devices=<processes on a node> and, on several nodes, trainer.num_nodes"
        )


@contextmanager
def _another(folder: Path, rank: int) -> Iterator[None]:
    """Any rank but the first: it leaves a report, and is gone at once, whatever of it may still wait for the others."""
    if FIRST in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[FIRST]),), daemon=True).start()
    try:
        yield
    except BaseException as error:
        report = report_of(error, rank)
        try:
            report.leave(folder)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:
            os._exit(report.code)


def _end_with(first: int) -> None:
    """A process whose first rank is gone has nobody to work for."""
    while os.getppid() == first:
        time.sleep(LOOK)
    os._exit(1)


@contextmanager
def _first(folder: Path, ended: Callable[..., None]) -> Iterator[None]:
    others = Others(folder, ended)
    # Lightning's own observer kills this process without a word when another one fails.
    observe = subprocess_script._launch_process_observer
    subprocess_script._launch_process_observer = others.watch
    os.environ[FIRST] = str(os.getpid())
    try:
        yield
        others.wait()
    except BaseException as error:
        other = others.cause_of(error)
        if other is None:
            raise
        raise other from None
    finally:
        subprocess_script._launch_process_observer = observe
        others.end()
        if distributed.is_initialized() and distributed.get_world_size() == 1 + len(others.processes):
            _leave_group()  # nobody is left in it; a sweep's next job makes its own


class Others:
    """What rank 0 knows of the other processes."""

    def __init__(self, folder: Path, ended: Callable[..., None]) -> None:
        self.folder, self.ended = folder, ended
        self.processes: list[subprocess.Popen[Any]] = []
        self.over = threading.Event()  # rank 0 is through, or is dealing with an error itself
        self._forget(before=BEGAN)  # not one that a rank of this start has left already

    def watch(self, child_processes: list[subprocess.Popen[Any]]) -> None:
        """Called by Lightning once it has started them."""
        self.processes = child_processes
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._gone() and not reports_in(self.folder) and not self.over.wait(LOOK):
            pass
        if self.over.wait(STARTS if any(-process.returncode in ASKED for process in self._gone()) else HANGS):
            return
        error = self._explained() or next((report.error() for report in reports_in(self.folder)), _GONE)
        if isinstance(error, OtherRankError):
            print(error.text, file=sys.stderr, flush=True)
            self.ended(status="failed", error=error.line)
        else:
            self.ended(status="interrupted")
        self._kill()
        self._forget()
        os._exit(error.code if isinstance(error.code, int) else 1)

    def cause_of(self, own: BaseException) -> BaseException | None:
        """The error of another rank that led to rank 0's, or None."""
        self.over.set()
        if not isinstance(own, Exception):  # asked to stop; by torchrun, once it has seen another one fail
            return None if self.processes else self._explained()
        if not is_consequence(own):
            return None
        end = time.monotonic() + REPORTS
        while time.monotonic() < end and not self._explained() and (not self.processes or len(self._alive())):
            time.sleep(LOOK)
        return self._explained()

    def _explained(self) -> OtherRankError | SystemExit | None:
        reports = reports_in(self.folder)
        cause = next((report for report in reports if not report.consequence), None)
        if cause:
            return cause.error()
        reported = {report.rank for report in reports}
        for rank, process in enumerate(self.processes, start=1):
            if process.poll() and rank not in reported:
                return _died(rank, process.returncode)
        return None

    def wait(self) -> None:
        """For the others to end, as rank 0 has.

        Raises:
            OtherRankError: one didn't end well.
        """
        self.over.set()
        end = time.monotonic() + LEAVE
        while self._alive() and time.monotonic() < end:
            time.sleep(0.05)
        error = self._explained()
        if error:
            raise error

    def end(self) -> None:
        """None is left, and no report."""
        self.over.set()
        end = time.monotonic() + 5
        while self._alive() and time.monotonic() < end:
            time.sleep(0.05)
        if self._alive():
            log.warning("%d processes of this run haven't ended by themselves: they are killed", len(self._alive()))
        self._kill()
        self._forget()

    def _gone(self) -> list[subprocess.Popen[Any]]:
        """Those that didn't end well."""
        return [process for process in self.processes if process.poll()]

    def _alive(self) -> list[subprocess.Popen[Any]]:
        return [process for process in self.processes if process.poll() is None]

    def _kill(self) -> None:
        """Not SIGTERM: a process that waits for the others in a collective wouldn't heed it."""
        for process in self._alive():
            process.kill()
            process.wait()

    def _forget(self, before: float = math.inf) -> None:
        for file in self.folder.glob(".rank_*"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < before:
                    file.unlink()


_GONE = OtherRankError("a process is gone", "error: a process is gone", 1)


def _died(rank: int, code: int) -> OtherRankError | SystemExit:
    if -code in ASKED:
        return SystemExit(128 - code)
    reason = "; out of memory?" if code == -signal.SIGKILL else ""
    how = f"was killed (signal {-code}{reason})" if code < 0 else f"ended with exit code {code}"
    return OtherRankError(f"rank {rank} {how}", f"error: rank {rank} {how}", 1)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
