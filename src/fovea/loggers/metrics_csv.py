"""Writes metrics.csv in the run folder: a row for each logged step or epoch. A resumed run appends to it."""

import csv
import io
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from fovea.files import atomic_write


class MetricsCsv(Logger):
    """A Lightning logger with the columns `step`, `epoch` and each metric, in the order of their first appearance.

    Everything that is logged for one step is in one row. Each value is written at once, and a kill leaves a complete
    file. Lightning's CSVLogger does neither, and it deletes the file of a run that is resumed.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.file = Path(folder) / "metrics.csv"
        self.columns = ["step", "epoch"]
        self.row: dict[str, Any] = {}
        self.start_of_row = 0  # in bytes
        self.last_step: int | None = -1  # rows of an earlier run are kept up to this step; None: that is done

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has them."""

    def resume_after(self, step: int) -> None:
        """Drop rows of later steps, which a resumed run logs again."""
        self.last_step = step

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.last_step is not None:
            self._keep_until(self.last_step)
        same_step = step == self.row.get("step")
        self.row = (self.row if same_step else {"step": step}) | dict(metrics)
        new = [name for name in self.row if name not in self.columns]
        if new:
            rows = self._rows()
            self._write_all([*self.columns, *new], [*(rows[:-1] if same_step else rows), self.row])
            return
        with self.file.open("r+b") as out:
            self.start_of_row = out.seek(self.start_of_row) if same_step else out.seek(0, os.SEEK_END)
            out.write(self._lines(self.row))
            out.truncate()

    def _keep_until(self, step: int) -> None:
        """Keep the earlier run's rows up to `step`; further values of that step are added to the last row."""
        rows = [row for row in self._rows() if int(row["step"]) <= step]
        self.row = {name: value for name, value in rows[-1].items() if value} if rows else {}
        self.row |= {"step": int(self.row["step"])} if rows else {}
        self.last_step = None
        self._write_all(list(rows[0]) if rows else self.columns, rows)

    def _rows(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        with self.file.open(newline="", encoding="utf-8") as lines:
            return list(
                csv.DictReader(line for line in lines if line.endswith("\n"))
            )  # a full disk truncates the last one

    def _write_all(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        self.columns = columns
        header = self._lines({name: name for name in columns})
        before, last = self._lines(*rows[:-1]), self._lines(*rows[-1:])
        self.start_of_row = len(header) + len(before)
        with atomic_write(self.file) as temporary:
            temporary.write_bytes(header + before + last)

    def _lines(self, *rows: dict[str, Any]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.columns).writerows(rows)
        return text.getvalue().encode("utf-8")
