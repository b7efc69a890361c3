"""Reports of failed ranks: files in the run's folder, which rank 0 reads and prints."""

import json
import os
import re
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from torch import distributed

from fovea.error_text import OtherRankError, exit_code, line, screen_text
from fovea.files import write_safely

FIRST = "FOVEA_RANK_0"  # environment variable with rank 0's process id, for the ranks that Lightning starts
CONSEQUENCE = re.compile(r"(?i)gloo|nccl|tcpstore|processgroup|connection (?:closed|reset) by peer|broken pipe")


class Report(NamedTuple):
    """How a rank ended.

    Attributes:
        first: rank 0's process id, if rank 0 started this rank.
        stopped: the rank was stopped by a signal or Ctrl-C.
        consequence: the error only reports that another process is gone.
        line: the line for results.json.
        text: the text for the screen.
    """

    rank: int
    first: str | None
    time: float
    stopped: bool
    code: int
    consequence: bool = False
    line: str = ""
    text: str = ""

    def write(self, folder: Path) -> None:
        """Write the report, which rank 0 prints.

        It is printed here instead if another launcher started this rank, or if the disk is full.
        """
        prints = self.first is None
        try:
            write_safely(folder / f".rank_{self.rank}.json", json.dumps(self._asdict()))
        except OSError:
            prints = True
        if prints and not self.stopped:
            print(self.message(in_full=not self.consequence), file=sys.stderr)

    def message(self, in_full: bool) -> str:
        """Return the text to print: in full, or only the line of results.json."""
        return f"rank {self.rank} failed" + (f"\n{self.text}" if in_full else f": {self.line}")

    def error(self) -> OtherRankError | SystemExit:
        """Return the exception that rank 0 raises because of this report."""
        if self.stopped:
            return SystemExit(self.code)
        text = self.message(in_full=self.first is not None)  # otherwise that rank has printed its full text
        return OtherRankError(f"rank {self.rank}: {self.line}", text, self.code)


def report_of(error: BaseException, rank: int) -> Report:
    """Make the report of a rank that ends with this error."""
    about: dict[str, Any] = {"rank": rank, "first": os.environ.get(FIRST), "time": time.time()}
    if not isinstance(error, Exception):
        code = (error.code or 0) if isinstance(error, SystemExit) else 128 + signal.SIGINT
        return Report(**about, stopped=True, code=code if isinstance(code, int) else 1)
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    return Report(
        **about,
        stopped=False,
        code=exit_code(error),
        consequence=is_consequence(error),
        line=line(error),
        text=(None if full else screen_text(error)) or "".join(traceback.format_exception(error)).rstrip(),
    )


def reports_in(folder: Path) -> list[Report]:
    """Read the reports of this start's ranks, sorted by time; older reports are ignored."""
    reports = []
    for file in folder.glob(".rank_*.json"):
        with suppress(OSError, ValueError, TypeError):  # deleted in the meantime, or not a report
            reports.append(Report(**json.loads(file.read_text("utf-8"))))
    current = (report for report in reports if report.first in (None, str(os.getpid())))
    return sorted(current, key=lambda report: report.time)


def is_consequence(error: BaseException) -> bool:
    """Whether the error, or its cause, only reports that another process is gone."""
    return any(_is_lost_connection(one) for one in (error, error.__cause__))


def _is_lost_connection(error: BaseException | None) -> bool:
    if isinstance(error, getattr(distributed, "DistError", ())):
        return True
    return isinstance(error, RuntimeError) and CONSEQUENCE.search(str(error)) is not None
