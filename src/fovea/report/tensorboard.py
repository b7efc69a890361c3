"""Curves for TensorBoard, in the run's folder; a resumed run goes on in them."""

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, which forgets what an interrupted run had logged after the step where it is resumed."""

    @rank_zero_only
    def go_on_after(self, step: int) -> None:
        """Begin a file whose first words void the events of later steps in the files before it."""
        self._experiment = None
        self._kwargs["purge_step"] = step + 1
        self.experiment.flush()
        del self._kwargs["purge_step"]  # the test's file is to void nothing
