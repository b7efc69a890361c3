"""How many images a second training takes in, over all devices."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/images_per_second` for each epoch: from its first batch's arrival to its last one's end.

    Waiting for data is in it, but for that first batch; so are validations and checkpoints within the epoch.
    """

    def __init__(self) -> None:
        self.images, self.seconds, self.since = 0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.images, self.seconds, self.since = 0, 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self.since:
            self.since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.images += len(batch[0]) * trainer.world_size
        self.seconds, self.since = self.seconds + now - self.since, now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seconds:
            pl_module.log("train/images_per_second", self.images / self.seconds, sync_dist=True)
