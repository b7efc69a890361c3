"""metrics.csv: one row for each logged step or epoch, in the run's folder; a resumed run goes on in it."""

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCsv(Logger):
    """A Lightning logger with columns `step`, `epoch` and each metric's name, in the order they first came.

    Lightning's own CSVLogger deletes the file that a resumed run finds. Rows are kept until something new is logged for
    another step, so that what is logged together stands in one row, and each is on disk as soon as it is complete.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.file = Path(folder) / "metrics.csv"
        self.columns = ["step", "epoch"]
        self.row: dict[str, Any] = {}
        self.begun = False

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.row and step != self.row["step"]:
            self._write()
        self.row |= {"step": step} | dict(metrics)

    def _write(self) -> None:
        if not self.row:
            return
        if not self.begun:
            self._take_up(self.row["step"])
        new = [name for name in self.row if name not in self.columns]
        if new:
            self._write_all([*self.columns, *new], self._rows())
        with self.file.open("a", newline="", encoding="utf-8") as out:
            csv.DictWriter(out, self.columns).writerow(self.row)
        self.row = {}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._write()

    def _take_up(self, step: int) -> None:
        """Keep an earlier run's rows up to where this one goes on."""
        self.begun = True
        rows = [row for row in self._rows() if int(row["step"]) < step]
        self._write_all(list(rows[0]) if rows else self.columns, rows)

    def _rows(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        with self.file.open(newline="", encoding="utf-8") as lines:
            return list(csv.DictReader(lines))

    def _write_all(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        self.columns = columns
        with self.file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, columns)
            writer.writeheader()
            writer.writerows(rows)
