"""Finds the callback that saves the checkpoint with the monitor's best value."""

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


def find_saver(trainer: Trainer, monitor: str) -> ModelCheckpoint | None:
    """Return the trainer's first ModelCheckpoint with this monitor."""
    savers = (c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint))
    return next((saver for saver in savers if saver.monitor == monitor), None)


def is_best(trainer: Trainer, monitor: str) -> bool | None:
    """Return True if the monitor's last value was the best so far and was saved; None if no callback saves by it."""
    saver = find_saver(trainer, monitor)
    if saver is None:
        return None
    score, value = saver.best_model_score, trainer.callback_metrics.get(monitor)
    saved_now = saver._last_global_step_saved == trainer.global_step > 0
    return saved_now and score is not None and value is not None and bool(score.cpu() == value.cpu())
