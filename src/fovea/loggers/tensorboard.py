"""Logs curves, pictures and hyperparameters for TensorBoard in the run folder. A resumed run continues its curves."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

SUFFIX = ".hparams"  # of the event file with the data of the HParams tab


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, but a resumed run replaces what the interrupted run logged after the resumed step.

    Attributes:
        continues: True after `resume_after` if what the interrupted run logged at step 0 is kept.
    """

    continues = False

    @rank_zero_only
    def resume_after(self, step: int) -> None:
        """Start an event file that makes TensorBoard discard later steps from the earlier files."""
        self.continues = step >= 0
        self._experiment = None
        self._kwargs["purge_step"] = step + 1
        self.experiment.flush()
        del self._kwargs["purge_step"]  # the test's event file must not discard anything

    @rank_zero_only
    def log_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture (H, W, 3) uint8, and write the event file at once."""
        self.experiment.add_image(name, pixels, step, dataformats="HWC")
        self.experiment.flush()

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict[str, Any] | None = None, step: int | None = None
    ) -> None:
        """Show the hyperparameters and metrics in the HParams tab, replacing earlier ones of this run.

        They have their own event file, and an earlier one is deleted: of several, TensorBoard uses the first.
        TensorBoard reads files in the order of their names, and a training's first file discards what was read before.
        Files of the same second are sorted by their numbers as text (10 before 9). Therefore the second in the name of
        the file with the metrics is increased by one.
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
