"""Writes a line for each epoch to the log, and a table row to the terminal."""

import logging
import time
from typing import Any

import rich
from lightning import Callback, LightningModule, Trainer
from rich.text import Text

from fovea.callbacks.best_checkpoint import is_best
from fovea.callbacks.text import epoch_table

log = logging.getLogger(__name__)


class EpochLog(Callback):
    """`epoch 3/15  train/loss 0.1234  train/images_per_second 400  val/accuracy 0.9733  ...`

    A validation within an epoch gets its own line. All figures are in metrics.csv. Other callbacks and the module log
    their figures at the end of the epoch or validation, in any order, and the best checkpoint is saved after that.
    Therefore the line is written at the next hook. `pl_module` is a ClassificationTask.
    """

    def __init__(self) -> None:
        self.validated = False  # whether a validation ended since the last line
        self.ended: int | None = None  # the epoch whose line is still to be written, counted from 1
        self.start, self.seconds = 0.0, 0.0  # of the epoch
        self.columns: list[epoch_table.Column] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ended, self.seconds = trainer.current_epoch + 1, time.perf_counter() - self.start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)
        self.start = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.validated:
            self._write(trainer, pl_module, batch_idx / trainer.num_training_batches)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, Exception):  # a stop by a signal, not a failure
            self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: Any, part: float = 0.0) -> None:
        """Write a line for the epoch that ended, or for a validation after the fraction `part` of an epoch."""
        if trainer.is_global_zero and (self.ended is not None or (self.validated and part)):
            done = self.ended if self.ended is not None else trainer.current_epoch + part
            epoch = epoch_table.epoch_text(done, trainer.max_epochs if (trainer.max_epochs or 0) > 0 else None)
            step = f"{trainer.global_step:>{len(str(trainer.max_steps))}}/{trainer.max_steps}"
            seconds, best = (self.seconds if self.ended else None), is_best(trainer, pl_module.monitor)
            values = (epoch, step if trainer.max_steps > 0 else "", self._figures(trainer, pl_module.monitor), seconds)
            screen = self._table_text(epoch_table.cells(*values, best), pl_module.monitor)
            log.info(epoch_table.log_line(*values, best), extra={"screen": screen})
        self.validated, self.ended = False, None

    def _figures(self, trainer: Trainer, monitor: str) -> dict[str, float]:
        """Return the figures of the epoch or validation that ended, without those of earlier ones."""
        logged = trainer.callback_metrics
        shown = ["train/loss", epoch_table.SPEED, *[monitor] * monitor.startswith("train/")] * (self.ended is not None)
        shown += [name for name in logged if name.startswith("val/")] * self.validated
        return {name: logged[name].item() for name in shown if name in logged}

    def _table_text(self, row: dict[str, str], monitor: str) -> Text:
        """Return the row, with the header above it if the columns have changed."""
        before = self.columns or ([] if "time" in row else epoch_table.EPOCH_COLUMNS)
        shown = epoch_table.columns(row, monitor, rich.get_console().width, before)
        text = Text(epoch_table.header(shown) + "\n", "bold") if shown != self.columns else Text()
        self.columns = shown
        return text.append(epoch_table.row_text(shown, row), "bold green" if row.get("best") else "")
