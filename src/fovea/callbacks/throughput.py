"""Measures the images per second of the training, over all devices."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/images_per_second` for each epoch, measured from the start of its first batch to the end of its last.

    The time includes waiting for data (except for the first batch), and validations and checkpoints within the epoch.
    """

    def __init__(self) -> None:
        self.images, self.seconds, self.start = 0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.images, self.seconds, self.start = 0, 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self.start:
            self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.images += len(batch[0]) * trainer.world_size
        self.seconds, self.start = self.seconds + now - self.start, now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seconds:
            pl_module.log("train/images_per_second", self.images / self.seconds, sync_dist=True)
