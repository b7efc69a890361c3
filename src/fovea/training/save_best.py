"""Saves best.ckpt, the checkpoint with the monitor's best value."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from fovea.runs.figure_names import average_of, prefix

log = logging.getLogger(__name__)


class SaveBest(ModelCheckpoint):
    """Lightning's ModelCheckpoint for the single file `folder`/best.ckpt. A moved folder keeps its best score.

    If several checkpoints have the same value of the monitor, the one with the lowest loss on the same split is kept
    (val/ema_loss for a monitor val/ema_<name>); if the losses are equal too, the earliest. An undefined value (nan) of
    the monitor or the loss is worse than any other and counts as equal to nan. If both are undefined, the latest
    checkpoint is kept.

    Attributes:
        best_step: the optimizer step of the best checkpoint; -1 if there is none.
    """

    def __init__(self, folder: str, monitor: str, mode: str, after_step: int | None = 0, newest: bool = False) -> None:
        """Args:
        folder: of best.ckpt.
        monitor: the figure to compare.
        mode: "min" or "max".
        after_step: the first validation after this optimizer step replaces all earlier ones, whatever their figures.
            For small validation splits, where the best of many figures is partly chance. None, as in a run without
            an end, is 0.
        newest: each validation replaces the earlier ones, whatever their figures, so the last one decides.
        """
        super().__init__(folder, "best", monitor, mode=mode, save_top_k=1, enable_version_counter=False)
        self.after_step, self.newest, self.best_step = after_step or 0, newest, -1
        self.file = Path(str(self.dirpath)) / "best.ckpt"
        self.fits = True
        self.loss: float | None = None  # of the best checkpoint
        self.loss_name = f"{monitor.partition('/')[0]}/{prefix(average_of(monitor))}loss"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.fits = stage == "fit"
        super().setup(trainer, pl_module, stage)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Return True if this checkpoint is the new best; all ranks return the same."""
        is_late, best_is_late = trainer.global_step > self.after_step, self.best_step > self.after_step
        if best_is_late and not is_late:  # the run was killed after it had saved a later best.ckpt
            return False
        if self.newest or (is_late and not best_is_late):
            self.best_k_models = {}
        logged = trainer.callback_metrics.get(self.loss_name)
        loss = None if logged is None else logged.item()
        keep = super().check_monitor_top_k(trainer, current)
        if not keep and loss is not None and self.loss is not None:
            keep = trainer.strategy.reduce_boolean_decision(self._wins_tie(current, loss))
        if keep:
            self.loss, self.best_step = loss, trainer.global_step
        return keep

    def _wins_tie(self, current: Tensor | None, loss: float) -> bool:
        """Return True if the loss decides for this checkpoint. Lightning stores an undefined score as an infinity."""
        assert current is not None and self.loss is not None and self.best_model_score is not None
        if current.isnan():
            undefined = bool(self.best_model_score.isinf())
            return undefined and (loss < self.loss or math.isnan(self.loss))
        return bool(current == self.best_model_score) and loss < self.loss

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"loss": self.loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score from best.ckpt itself, unless it is missing.

        Lightning would drop the score of a moved folder. After a kill, best.ckpt can be newer than the state of the
        resumed checkpoint.
        """
        file = self.file
        if not (self.fits and file.is_file()):
            return
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            written, self.best_step = checkpoint["callbacks"][self.state_key], checkpoint["global_step"]
        except Exception as error:  # an unpickler may raise any exception
            log.error("%s is damaged (%s): the next validated checkpoint replaces it", file, type(error).__name__)
            return
        score = written["best_model_score"]
        paths = {"dirpath": str(self.dirpath), "best_model_path": str(file), "kth_best_model_path": str(file)}
        scores = {"best_k_models": {str(file): score}, "best_model_score": score, "kth_value": score}
        super().load_state_dict(state_dict | paths | scores)
        self.loss = written["loss"]
        self.current_score = state_dict["current_score"]
