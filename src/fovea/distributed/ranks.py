"""Coordinates the ranks of a run: when one fails, stop all of them and print the first error once.

Rank 0 is the process that the user started; Lightning starts the others. A rank that fails writes a report into the
run's folder; rank 0 finds the report that explains its own failure, prints it and kills the remaining ranks. If
torchrun or srun started all ranks, it stops the remaining ones and each rank prints its own error.
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

POLL_INTERVAL = 0.3  # seconds between two checks of the other processes
REPORT_TIMEOUT = 10  # seconds that rank 0, after its own failure, waits for a report that explains it
HANG_TIMEOUT = 20  # seconds after another rank's failure until rank 0, if it still runs, is ended too
STOP_TIMEOUT = 3  # the same if a stop signal killed a rank before it had a handler, as rank 0 may wait for that rank
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
EXIT_TIMEOUT = 30  # seconds that the other ranks have to end after rank 0


@contextmanager
def coordinated(folder: Path, ended: Callable[..., None] = lambda **values: None) -> Iterator[None]:
    """Run one job on all ranks; afterwards the process group and its variables are removed, for a sweep's next job.

    Args:
        folder: the run's; ranks write their reports into it.
        ended: writes the run's `status` and `error` if rank 0 hangs and can't do it itself.

    Raises:
        OtherRankError: another rank failed first, or was killed.
    """
    before = dict(os.environ)
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    try:
        with _other_rank(folder, rank) if rank else _first_rank(folder, ended):
            yield
            _leave_group()
    finally:
        os.environ.clear()
        os.environ.update(before)


def check_world(world_size: int) -> None:
    """Raise ValueError if a launcher started more processes than train together: the rest would train separately."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > world_size:
        raise ValueError(
            f"{started} processes were started (WORLD_SIZE), but only {world_size} would train together: "
            "type trainer.devices=<processes on a node> and, on several nodes, trainer.num_nodes=<nodes>"
        )


@contextmanager
def _other_rank(folder: Path, rank: int) -> Iterator[None]:
    """Run a rank other than 0: after an error it writes a report and exits at once, even if its threads still wait."""
    if FIRST in os.environ:
        threading.Thread(target=_exit_with_parent, args=(int(os.environ[FIRST]),), daemon=True).start()
    try:
        yield
    except BaseException as error:
        report = report_of(error, rank)
        try:
            report.write(folder)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:
            os._exit(report.code)


def _exit_with_parent(parent: int) -> None:
    """Exit as soon as rank 0, the parent process, has ended."""
    while os.getppid() == parent:
        time.sleep(POLL_INTERVAL)
    os._exit(1)


@contextmanager
def _first_rank(folder: Path, ended: Callable[..., None]) -> Iterator[None]:
    others = OtherRanks(folder, ended)
    # Lightning's own observer would kill this process without a message when another one fails.
    observe = subprocess_script._launch_process_observer
    subprocess_script._launch_process_observer = others.watch
    os.environ[FIRST] = str(os.getpid())
    try:
        yield
        others.wait()
    except BaseException as error:
        cause = others.cause_of(error)
        if cause is None:
            raise
        raise cause from None
    finally:
        subprocess_script._launch_process_observer = observe
        others.end()
        if distributed.is_initialized() and distributed.get_world_size() == 1 + len(others.processes):
            _leave_group()  # all other ranks have ended; a sweep's next job makes a new group


class OtherRanks:
    """Rank 0's view of the other ranks: watches them, finds their reports and stops them."""

    def __init__(self, folder: Path, ended: Callable[..., None]) -> None:
        self.folder, self.ended = folder, ended
        self.processes: list[subprocess.Popen[Any]] = []
        self.over = threading.Event()  # set when rank 0 has finished or handles an error itself
        self._remove_reports(before=BEGAN)  # a rank of this start may have written its report already

    def watch(self, child_processes: list[subprocess.Popen[Any]]) -> None:
        """Watch the processes in a thread. Lightning calls this when it has started them."""
        self.processes = child_processes
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._failed() and not reports_in(self.folder) and not self.over.wait(POLL_INTERVAL):
            pass
        stopped = any(-process.returncode in STOP_SIGNALS for process in self._failed())
        if self.over.wait(STOP_TIMEOUT if stopped else HANG_TIMEOUT):
            return
        error = self._cause() or next((report.error() for report in reports_in(self.folder)), _GONE)
        if isinstance(error, OtherRankError):
            print(error.text, file=sys.stderr, flush=True)
            self.ended(status="failed", error=error.line)
        else:
            self.ended(status="interrupted")
        self._kill()
        self._remove_reports()
        os._exit(error.code if isinstance(error.code, int) else 1)

    def cause_of(self, own: BaseException) -> BaseException | None:
        """Return the error of another rank that caused rank 0's error, or None."""
        self.over.set()
        if not isinstance(own, Exception):  # stopped by a signal, which torchrun sends after another rank's failure
            return None if self.processes else self._cause()
        if not is_consequence(own):
            return None
        end = time.monotonic() + REPORT_TIMEOUT
        while time.monotonic() < end and not self._cause() and (not self.processes or len(self._alive())):
            time.sleep(POLL_INTERVAL)
        return self._cause()

    def _cause(self) -> OtherRankError | SystemExit | None:
        """Return the first reported error that is not a consequence, else that of a rank without a report."""
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
        """Wait for the other ranks to end after rank 0 has finished.

        Raises:
            OtherRankError: a rank failed.
        """
        self.over.set()
        end = time.monotonic() + EXIT_TIMEOUT
        while self._alive() and time.monotonic() < end:
            time.sleep(0.05)
        error = self._cause()
        if error:
            raise error

    def end(self) -> None:
        """Kill the ranks that have not ended by themselves after 5 seconds, and remove all reports."""
        self.over.set()
        end = time.monotonic() + 5
        while self._alive() and time.monotonic() < end:
            time.sleep(0.05)
        if self._alive():
            log.warning("%d processes of this run have not ended by themselves and are killed", len(self._alive()))
        self._kill()
        self._remove_reports()

    def _failed(self) -> list[subprocess.Popen[Any]]:
        """Return the processes that ended with an error or by a signal."""
        return [process for process in self.processes if process.poll()]

    def _alive(self) -> list[subprocess.Popen[Any]]:
        return [process for process in self.processes if process.poll() is None]

    def _kill(self) -> None:
        """Kill the remaining processes. SIGTERM is not enough: a process that waits in a collective ignores it."""
        for process in self._alive():
            process.kill()
            process.wait()

    def _remove_reports(self, before: float = math.inf) -> None:
        for file in self.folder.glob(".rank_*"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < before:
                    file.unlink()


_GONE = OtherRankError("a process is gone", "error: a process is gone", 1)


def _died(rank: int, code: int) -> OtherRankError | SystemExit:
    if -code in STOP_SIGNALS:
        return SystemExit(128 - code)
    reason = "; out of memory?" if code == -signal.SIGKILL else ""
    how = f"was killed (signal {-code}{reason})" if code < 0 else f"ended with exit code {code}"
    return OtherRankError(f"rank {rank} {how}", f"error: rank {rank} {how}", 1)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
