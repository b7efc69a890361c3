"""A line an epoch in the log: what the progress bar showed, kept."""

import logging

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

log = logging.getLogger(__name__)


class EpochLog(Checkpoint):
    """`epoch 3/15  train/loss 0.1234  val/accuracy 0.9733  ...`; a * marks the best `monitor` so far.

    A Checkpoint to Lightning because it reads what was logged in the epoch, after everyone has logged.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        super().__init__()
        self.monitor, self.sign = monitor, 1 if mode == "max" else -1
        self.best = float("-inf")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures = {name: value.item() for name, value in trainer.callback_metrics.items() if _is_shown(name)}
        score = self.sign * figures.get(self.monitor, float("-inf"))
        star = " *" if score > self.best else ""
        self.best = max(self.best, score)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in sorted(figures.items()))
        log.info("epoch %d/%s  %s%s", trainer.current_epoch + 1, trainer.max_epochs or "?", shown, star)


def _is_shown(name: str) -> bool:
    """Validation whole; of training, its loss and its speed. metrics.csv has the rest."""
    return name.startswith("val/") or name in ("train/loss", "train/images_per_second")
