"""last.ckpt: what `resume=` goes on from."""

import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class SaveLast(Checkpoint):
    """Writes `folder`/last.ckpt after every epoch, at the last step, and every so many steps or minutes.

    A Checkpoint to Lightning, so it comes after the other callbacks, and what it saves holds their state of that
    moment. Minutes are measured on rank 0, whose word the others follow.
    """

    def __init__(self, folder: str, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        super().__init__()
        self.file = Path(folder) / "last.ckpt"
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self.saved_at, self.saved_step = time.monotonic(), 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_at, self.saved_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped = trainer.global_step > self.saved_step
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or not stepped:
            return  # the epoch's end saves, validation included
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if due or trainer.global_step == trainer.max_steps or self._minutes_are_over(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:  # not where max_steps cut the epoch short
            self._save(trainer)

    def _minutes_are_over(self, trainer: Trainer) -> bool:
        if self.every_n_minutes is None:
            return False
        over = time.monotonic() - self.saved_at >= 60 * self.every_n_minutes
        return bool(trainer.strategy.broadcast(over))

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        trainer.save_checkpoint(self.file)
        self.saved_at, self.saved_step = time.monotonic(), trainer.global_step
