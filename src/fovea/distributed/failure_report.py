"""What a rank that fails leaves in the run's folder, for rank 0 to tell."""

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

from fovea.error_text import OtherRankError, exit_code, line, shown
from fovea.files import write_safely

FIRST = "FOVEA_RANK_0"  # its process id, for those that Lightning starts
CONSEQUENCE = re.compile(r"(?i)gloo|nccl|tcpstore|processgroup|connection (?:closed|reset) by peer|broken pipe")


class Report(NamedTuple):
    """A rank's end.

    Attributes:
        first: rank 0's process id, where that has started this rank.
        stopped: by a signal, or Ctrl-C.
        consequence: whether the error only says that another process is gone.
        line: for results.json.
        text: for the screen.
    """

    rank: int
    first: str | None
    time: float
    stopped: bool
    code: int
    consequence: bool = False
    line: str = ""
    text: str = ""

    def leave(self, folder: Path) -> None:
        """Rank 0 tells it; but for one that another launcher started, or a report that a full disk doesn't take."""
        tell = self.first is None
        try:
            write_safely(folder / f".rank_{self.rank}.json", json.dumps(self._asdict()))
        except OSError:
            tell = True
        if tell and not self.stopped:
            print(self.told(in_full=not self.consequence), file=sys.stderr)

    def told(self, in_full: bool) -> str:
        """What is printed of it; not in full, the line that results.json gets."""
        return f"rank {self.rank} failed" + (f"\n{self.text}" if in_full else f": {self.line}")

    def error(self) -> OtherRankError | SystemExit:
        """What rank 0 ends with."""
        if self.stopped:
            return SystemExit(self.code)
        text = self.told(in_full=self.first is not None)  # else it has told that itself
        return OtherRankError(f"rank {self.rank}: {self.line}", text, self.code)


def report_of(error: BaseException, rank: int) -> Report:
    """How a rank ends with an error."""
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
        text=(None if full else shown(error)) or "".join(traceback.format_exception(error)).rstrip(),
    )


def reports_in(folder: Path) -> list[Report]:
    """By time; without those of ranks that a start before this one has left behind."""
    reports = []
    for file in folder.glob(".rank_*.json"):
        with suppress(OSError, ValueError, TypeError):  # gone by now, or none of ours
            reports.append(Report(**json.loads(file.read_text("utf-8"))))
    mine = (report for report in reports if report.first in (None, str(os.getpid())))
    return sorted(mine, key=lambda report: report.time)


def is_consequence(error: BaseException) -> bool:
    """Whether an error, or its cause, only says that another process is gone."""
    return any(_says_so(one) for one in (error, error.__cause__))


def _says_so(error: BaseException | None) -> bool:
    if isinstance(error, getattr(distributed, "DistError", ())):
        return True
    return isinstance(error, RuntimeError) and CONSEQUENCE.search(str(error)) is not None
