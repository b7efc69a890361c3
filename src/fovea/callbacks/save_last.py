"""last.ckpt: what `resume=` goes on from."""

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

log = logging.getLogger(__name__)


class SaveLast(Checkpoint):
    """Writes `folder`/last.ckpt after every epoch, at the last step, at Ctrl-C, and every so many steps or minutes.

    Ctrl-C finishes the step first, on one device; several ranks stop at once, and go on from what was saved before.

    A Checkpoint to Lightning, so it comes after the other callbacks, and what it saves holds their state of that
    moment. Minutes are measured on rank 0, whose word the others follow.
    """

    def __init__(self, folder: str, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        super().__init__()
        self.file = Path(folder) / "last.ckpt"
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self.saved_at, self.saved_step = time.monotonic(), 0
        self.interrupted = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_at, self.saved_step = time.monotonic(), trainer.global_step
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self.interrupted = False
            signal.signal(signal.SIGINT, self._finish_the_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _finish_the_step(self, number: int, frame: FrameType | None) -> None:
        """At the first Ctrl-C; the second one stops at once."""
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log.warning("stopping after this step, with a checkpoint; Ctrl-C again stops at once")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped = trainer.global_step > self.saved_step
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or not stepped:
            return  # the epoch's end saves, validation included
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        stops = trainer.should_stop or trainer.global_step == trainer.max_steps
        if due or stops or self.interrupted or self._minutes_are_over(trainer):
            self._save(trainer)
        if self.interrupted:
            raise KeyboardInterrupt

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if self.interrupted:  # within a validation there is nothing new to keep
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # not again where the epoch was cut short: what was saved at the batch's end goes on within the epoch
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or trainer.global_step > self.saved_step:
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
