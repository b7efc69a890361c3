"""The callback that keeps the checkpoint with the monitor's best value."""

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


def keeper_of(trainer: Trainer, monitor: str) -> ModelCheckpoint | None:
    """The first of the trainer's that follows `monitor`."""
    keepers = (c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint))
    return next((keeper for keeper in keepers if keeper.monitor == monitor), None)


def is_best(trainer: Trainer, monitor: str) -> bool | None:
    """Whether the monitor's last value was the best so far, and saved; None where no checkpoint is kept by it."""
    keeper = keeper_of(trainer, monitor)
    if keeper is None:
        return None
    score, value = keeper.best_model_score, trainer.callback_metrics.get(monitor)
    saved_now = keeper._last_global_step_saved == trainer.global_step > 0
    return saved_now and score is not None and value is not None and bool(score.cpu() == value.cpu())
