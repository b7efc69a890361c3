"""A line an epoch in the log: what the progress bar showed, kept."""

import logging

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

log = logging.getLogger(__name__)


class EpochLog(Checkpoint):
    """`epoch 3/15  train/loss 0.1234  train/images_per_second 400  val/accuracy 0.9733  ...`

    metrics.csv has the rest. A Checkpoint to Lightning because it reads what was logged in the epoch, after everyone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        shown = ["train/loss", "train/images_per_second"]
        if self.validated:  # else the figures that are there are an earlier epoch's
            shown += sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
        known = trainer.callback_metrics
        figures = "  ".join(f"{name} {known[name].item():.4g}" for name in shown if name in known)
        log.info("epoch %d/%s  %s", trainer.current_epoch + 1, trainer.max_epochs or "?", figures)
        self.validated = False
