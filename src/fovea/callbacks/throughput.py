"""Measures the images per second of the training, over all devices, and where its time goes."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/images_per_second` for each epoch, measured from the start of its first batch to the end of its last.

    The time includes waiting for data (except for the first batch), and validations and checkpoints within the epoch.

    Attributes:
        phases: seconds of the training by phase: "steps", "waiting for data", "validation", "saving" of checkpoints,
            and "other", such as the end of an epoch. A GPU works on a step after it was started: its time counts where
            the program waits for the GPU.
    """

    def __init__(self) -> None:
        self.images, self.seconds, self.start = 0, 0.0, 0.0
        self.phases = dict.fromkeys(("steps", "waiting for data", "validation", "saving", "other"), 0.0)
        self.since, self.validating = 0.0, 0.0  # the end of the last batch or validation; a validation's start
        self.counted = {"waiting for data": 0.0, "saving": 0.0}  # what had been spent on these then

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.images, self.seconds, self.start = 0, 0.0, 0.0
        if not self.since:
            self.since = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        self._between(trainer, now)
        self.since = now
        if not self.start:
            self.start = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.images += len(batch[0]) * trainer.world_size
        self.seconds, self.start = self.seconds + now - self.start, now
        self.phases["steps"] += now - self.since
        self.since = now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seconds:
            pl_module.log("train/images_per_second", self.images / self.seconds, sync_dist=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.perf_counter()
        if not trainer.sanity_checking and self.since:
            self._between(trainer, now)
        self.validating = now

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = time.perf_counter()
        if not trainer.sanity_checking:
            self.phases["validation"] += self.since - self.validating

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._between(trainer, time.perf_counter())

    def _between(self, trainer: Trainer, now: float) -> None:
        """Count the time since the last batch or validation."""
        totals = {
            "waiting for data": getattr(trainer.train_dataloader, "waited", 0.0),
            "saving": getattr(trainer.strategy.checkpoint_io, "seconds", 0.0),
        }
        spent = {name: total - self.counted[name] for name, total in totals.items()}
        self.counted = totals
        for name, seconds in spent.items():
            self.phases[name] += seconds
        if self.since:
            self.phases["other"] += max(0.0, now - self.since - sum(spent.values()))
