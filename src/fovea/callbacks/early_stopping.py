"""Stops the training when the monitor has not improved for some validations."""

from typing import Any

from lightning import Trainer
from lightning.pytorch import callbacks


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's EarlyStopping, with two differences.

    A stopped run that is resumed stops again at once, unless its patience was increased. A validation where the labels
    leave the monitor undefined (nan) is ignored: it counts neither as better nor as worse.

    `pl_module` is a ClassificationTask.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not pl_module.is_undefined(self.monitor):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not pl_module.is_undefined(self.monitor):
            super().on_validation_end(trainer, pl_module)
