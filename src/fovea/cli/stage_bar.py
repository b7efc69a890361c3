"""Shows how far a program has come: a bar for each stage on a terminal, a line now and then in a pipe."""

import logging
import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.text import Text

log = logging.getLogger(__name__)
INTERVAL = 30.0  # seconds between two lines in a pipe


class StageBar:
    """Shows stages of work on images; a context manager."""

    def __init__(self) -> None:
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
        self.on_terminal = sys.stdout.isatty()
        self.progress = Progress(*columns, disable=not self.on_terminal)
        self.stages: dict[str, TaskID] = {}
        self.last_line = time.monotonic()

    def __enter__(self) -> "StageBar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` images of a stage are finished."""
        if stage not in self.stages:
            self.stages[stage] = self.progress.add_task(stage, total=total)
        self.progress.update(self.stages[stage], completed=done)
        if not self.on_terminal and time.monotonic() - self.last_line >= INTERVAL:
            self.last_line = time.monotonic()
            log.info("%s: %s of %s images", stage, f"{done:,}", f"{total:,}")


class Speed(ProgressColumn):
    """A column with the images a second of the last half minute."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} images/s" if speed else "")
