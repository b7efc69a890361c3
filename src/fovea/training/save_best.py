"""best.ckpt: what `monitor` was best with."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

log = logging.getLogger(__name__)


class SaveBest(ModelCheckpoint):
    """Lightning's ModelCheckpoint for one file, `folder`/best.ckpt; a moved folder keeps its score.

    Of several checkpoints with the same value of the monitor the one with the lowest loss on the same split is kept
    (val/ema_loss for a monitor val/ema_<name>), and of those with the same loss the earliest. An undefined value (nan)
    is worse than any other and equals itself, and so is an undefined loss; of checkpoints without either the latest is
    kept.
    """

    def __init__(self, folder: str, monitor: str, mode: str) -> None:
        super().__init__(folder, "best", monitor, mode=mode, save_top_k=1, enable_version_counter=False)
        self.file = Path(str(self.dirpath)) / "best.ckpt"
        self.fits = True
        self.loss: float | None = None  # of the best checkpoint
        self.loss_name = f"{monitor.partition('/')[0]}/{'ema_' if '/ema_' in monitor else ''}loss"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.fits = stage == "fit"
        super().setup(trainer, pl_module, stage)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether to keep this checkpoint; all ranks decide the same. Lightning keeps the first of equal ones."""
        seen = trainer.callback_metrics.get(self.loss_name)
        loss = None if seen is None else seen.item()
        keep = super().check_monitor_top_k(trainer, current)
        if not keep and loss is not None and self.loss is not None:
            keep = trainer.strategy.reduce_boolean_decision(self._wins_tie(current, loss))
        if keep:
            self.loss = loss
        return keep

    def _wins_tie(self, current: Tensor | None, loss: float) -> bool:
        """Lightning keeps the score of an undefined monitor as an infinity."""
        assert current is not None and self.loss is not None and self.best_model_score is not None
        if current.isnan():
            undefined = bool(self.best_model_score.isinf())
            return undefined and (loss < self.loss or math.isnan(self.loss))
        return bool(current == self.best_model_score) and loss < self.loss

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"loss": self.loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning forgets the best score where `dirpath` differs; only a file of another run is to be forgotten.

        The score is the one that the file was written with: after a kill it can be of a later step than the checkpoint.
        """
        here = self.file
        if not (self.fits and here.is_file()):
            return
        try:
            written = torch.load(here, map_location="cpu", weights_only=True, mmap=True)["callbacks"][self.state_key]
        except Exception as error:  # an unpickler raises anything
            log.error("%s is damaged (%s): the next validation's is taken for the best", here, type(error).__name__)
            return
        score = written["best_model_score"]
        paths = {"dirpath": str(self.dirpath), "best_model_path": str(here), "kth_best_model_path": str(here)}
        scores = {"best_k_models": {str(here): score}, "best_model_score": score, "kth_value": score}
        super().load_state_dict(state_dict | paths | scores)
        self.loss = written.get("loss")
        self.current_score = state_dict["current_score"]
