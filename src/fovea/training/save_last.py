"""Saves last.ckpt, the checkpoint that `resume=` continues from."""

import logging
import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import distributed

from fovea.files import rename
from fovea.training import loop_state
from fovea.training.stop_signals import Stopped, StopSignals

log = logging.getLogger(__name__)


class SaveLast(Checkpoint):
    """Writes `folder`/last.ckpt between epochs, when a training stops, and at intervals of steps or minutes.

    The checkpoint before it is kept as previous.ckpt. A checkpoint has the state between two batches, between two
    epochs or before a validation, after all figures were logged. So a resumed run equals an uninterrupted one bit for
    bit.

    A stop by trainer.max_time or early stopping that comes between the accumulated batches of a step is put off until
    the step is complete, because a checkpoint can't hold accumulated gradients. All ranks set trainer.should_stop after
    the same batch, so they put it off together.

    A signal (see StopSignals) that one rank receives stops all ranks after the same batch. After an exception a
    checkpoint is saved only on a single device, and only if the exception came between two batches (from the data) or
    in a validation: within a step the weights may be partly updated, and several ranks can't agree on a common step.

    It is a Lightning Checkpoint, so Lightning calls it after the other callbacks, and it saves their latest state.
    """

    def __init__(self, folder: str, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        super().__init__()
        self.file = Path(folder) / "last.ckpt"
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self.saved_at, self.saved_step = time.monotonic(), -1
        self.last_logged_step = -1
        self.unfinished: dict[str, Any] | None = None  # checkpoint of a last epoch that ended early
        self.signals = StopSignals(graceful=True)
        self.put_off: Literal["stop", "validate and stop"] | None = None  # what to do when the step is complete
        self.place: Any = None  # the function of loop_state that sets the loop counters of the checkpoint
        self.group: Any = None  # of all ranks; on the CPU, so that its reductions don't wait for the GPU
        self.common_batches = 0  # number of validation batches that every rank has

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if hasattr(logger, "resume_after"):
                logger.resume_after(self.last_logged_step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop_state.end_restart_between_epochs(trainer)
        self.saved_at, self.put_off = time.monotonic(), None
        if not trainer.strategy.broadcast(self.file.exists()):  # the run started from another run's checkpoint
            self.saved_step = -1
        if trainer.world_size > 1:
            self.group = distributed.new_group(backend="gloo")
        self.signals.__enter__()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step != self.saved_step:
            self._save(trainer, loop_state.between_epochs)
        self._stop_after_signal(self._requests_of_all_ranks()[0])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        loop_state.end_restart(trainer)
        if not loop_state.at_a_step(trainer):
            return
        number, minutes_over = self._requests_of_all_ranks()
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if (due or minutes_over or number) and batch_idx and trainer.global_step != self.saved_step:
            self._save(trainer, loop_state.within_epoch)
        self._stop_after_signal(number)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._put_off_stop(trainer, "validate and stop")
        if self.put_off is None or loop_state.is_within_step(trainer):
            return
        if self.put_off == "stop":
            loop_state.prevent_extra_validation(trainer)
        trainer.should_stop, self.put_off = True, None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not loop_state.has_ended(trainer) and loop_state.at_a_step(trainer):
            self.unfinished = self._dump(
                trainer, loop_state.within_epoch
            )  # now, because the epoch's figures are cleared after this hook

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.unfinished is not None:
            self._write(trainer, self.unfinished)
        elif loop_state.has_ended(trainer):
            self._save(trainer, loop_state.between_epochs)
        self._stop_after_signal(self._requests_of_all_ranks()[0])
        self.signals.__exit__()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            loop_state.end_restart(trainer)
            self.common_batches = self._minimum_over_ranks(sum(trainer.num_val_batches))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or batch_idx >= self.common_batches:
            return
        number, _minutes = self._requests_of_all_ranks()
        if number and loop_state.at_a_step(trainer):
            self._save(trainer, loop_state.before_validation)
            self._stop_after_signal(number)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_step = -1  # schedules and the best score have changed since that step
        self._put_off_stop(trainer, "stop")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.signals.__exit__()
        by_signal = isinstance(exception, Stopped | KeyboardInterrupt)
        if by_signal or trainer.world_size > 1 or trainer.state.fn != "fit" or not trainer.global_step:
            return
        if loop_state.is_between_batches(trainer):
            if trainer.validating:
                self._try_to_save(trainer, loop_state.before_validation)
            elif trainer.fit_loop.epoch_loop.batch_idx >= 0 and not loop_state.has_ended(trainer):
                self._try_to_save(trainer, loop_state.within_epoch)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop_state.complete_counts(trainer, self.last_logged_step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.signals.__exit__()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["last_logged_step"] = loop_state.last_logged_step(trainer)
        if self.place is not None:
            self.place(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.saved_step, self.last_logged_step = checkpoint["global_step"], checkpoint["last_logged_step"]

    def _requests_of_all_ranks(self) -> tuple[int, bool]:
        """Return (a signal that some rank has received, or 0; whether every_n_minutes is over on some rank)."""
        over = self.every_n_minutes is not None and time.monotonic() - self.saved_at >= 60 * self.every_n_minutes
        if self.group is None:
            return self.signals.number, over
        state = torch.tensor([self.signals.number, over], dtype=torch.int32)
        distributed.all_reduce(state, distributed.ReduceOp.MAX, self.group)
        return int(state[0]), bool(state[1])

    def _minimum_over_ranks(self, count: float) -> int:
        minimum = torch.tensor(min(count, 2**31))
        if self.group is not None:
            distributed.all_reduce(minimum, distributed.ReduceOp.MIN, self.group)
        return int(minimum)

    def _stop_after_signal(self, number: int) -> None:
        if number:
            log.info("stopped at step %d, with a checkpoint", self.saved_step)
            raise Stopped(number)

    def _put_off_stop(self, trainer: Trainer, action: Literal["stop", "validate and stop"]) -> None:
        """Within a step, unset trainer.should_stop and remember what to do when the step is complete."""
        if trainer.should_stop and loop_state.is_within_step(trainer):
            trainer.should_stop, self.put_off = False, action

    def _try_to_save(self, trainer: Trainer, place: Any) -> None:
        """Save after an exception; a second error is logged, so that it doesn't hide the first."""
        try:
            self._save(trainer, place)
        except Exception as error:
            log.error("%s could not be saved: %s", self.file, error)

    def _save(self, trainer: Trainer, place: Any) -> None:
        self._write(trainer, self._dump(trainer, place))

    def _dump(self, trainer: Trainer, place: Any) -> dict[str, Any]:
        """Return the checkpoint without writing it, unlike `trainer.save_checkpoint`."""
        self.place = place
        try:
            return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        finally:
            self.place = None

    def _write(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for logger in trainer.loggers:
            logger.save()
        new = self.file.with_name("new.ckpt")
        trainer.strategy.save_checkpoint(checkpoint, new)
        if trainer.is_global_zero:
            if self.file.exists():
                rename(self.file, self.file.with_name("previous.ckpt"))
            rename(new, self.file)
        trainer.strategy.barrier("last.ckpt")
        self.saved_at, self.saved_step = time.monotonic(), trainer.global_step
