"""Curves for TensorBoard, in the run's folder; a resumed run goes on in them."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

SUFFIX = ".hparams"  # of the file that the HParams tab is made of


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, which forgets what an interrupted run had logged after the step where it is resumed."""

    @rank_zero_only
    def go_on_after(self, step: int) -> None:
        """Begin a file whose first words void the events of later steps in the files before it."""
        self._experiment = None
        self._kwargs["purge_step"] = step + 1
        self.experiment.flush()
        del self._kwargs["purge_step"]  # the test's file is to void nothing

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict[str, Any] | None = None, step: int | None = None
    ) -> None:
        """Show the run in the HParams tab, in the place of what it showed there before.

        They have a file of their own, which is written anew: TensorBoard keeps the first of several in one folder.
        TensorBoard reads files in the order of their names, and the first file of a training voids what was read before
        it. Files of one second are sorted by their numbers as text (10 before 9), so the file with the figures is named
        after the next second.
        """
        values = vars(params) if isinstance(params, Namespace) else params
        metrics, folder = metrics or {}, Path(self.log_dir)
        for file in folder.glob(f"events*{SUFFIX}"):
            file.unlink()
        with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
            for summary in hparams(values, metrics):
                writer._get_file_writer().add_summary(summary)
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
        for file in folder.glob(f"events*{SUFFIX}") if metrics else ():
            prefix, seconds, rest = re.fullmatch(r"(.*\.tfevents\.)(\d+)(.*)", file.name).groups()  # type: ignore[union-attr]
            file.rename(folder / f"{prefix}{int(seconds) + 1}{rest}")
