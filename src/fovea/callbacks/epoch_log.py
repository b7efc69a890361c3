"""Writes a line for each epoch to the log, with the figures that the progress bar showed."""

import logging

from lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class EpochLog(Callback):
    """`epoch 3/15  train/loss 0.1234  train/images_per_second 400  val/accuracy 0.9733  ...`

    metrics.csv has the rest. The other callbacks and the module log their figures at the end of the epoch, in any
    order, so the line is written at the next hook after it: the start of the next epoch or the end of the training.
    """

    def __init__(self) -> None:
        self.validated = False
        self.ended: int | None = None  # the epoch whose line is still to be written, counted from 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ended = trainer.current_epoch + 1

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if self.ended is None:
            return
        shown = ["train/loss", "train/images_per_second"]
        if self.validated:  # else the figures that are there are an earlier epoch's
            shown += sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
        known = trainer.callback_metrics
        figures = "  ".join(f"{name} {known[name].item():.4g}" for name in shown if name in known)
        log.info("epoch %d/%s  %s", self.ended, trainer.max_epochs or "?", figures)
        self.validated, self.ended = False, None
