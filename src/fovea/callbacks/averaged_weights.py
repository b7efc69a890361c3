"""Averages of the weights that are evaluated in addition to the trained weights: what EMA and SWA have in common."""

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning import Callback, Trainer
from torch import Tensor, nn

from fovea.runs.figure_names import average_of, checkpoint_key, prefix

log = logging.getLogger(__name__)


class AveragedWeights(Callback, ABC):
    """Updates an average of the weights; validation and test log its figures as `<split>/<average>_<metric>`.

    The average is a separate network and never replaces the trained one during a training, so a checkpoint always has
    the trained weights in their place. It has the average under `state_dict_<average>`, with the network's names. The
    update depends on the step number alone, so nothing else has to be saved.

    If the run's monitor is a figure of the average, predictions use the average. `pl_module` is a ClassificationTask.

    Attributes:
        kind: one of AVERAGES in figure_names.py.
        step: the optimizer step of the last update.
        average: the averaged network; None before a training or evaluation has begun.
    """

    kind: ClassVar[str]

    def __init__(self) -> None:
        self.step = 0
        self.average: nn.Module | None = None
        self.loaded: Mapping[str, Tensor] | None = None

    @abstractmethod
    def update(self, pl_module: Any) -> None:
        """Update the average after optimizer step `step`."""

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raise ValueError for weights in half precision: rounding would cancel the average's small updates."""
        halves = {p.dtype for p in pl_module.network.parameters() if p.dtype in (torch.float16, torch.bfloat16)}
        if halves:
            raise ValueError(
                f"trainer.precision={trainer.precision} stores the weights in {halves.pop()}, which is too coarse to "
                f"average: use bf16-mixed or 16-mixed, or remove callbacks.{self.kind}"
            )
        self._start(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.step = trainer.global_step  # of the checkpoint, which is not loaded yet in on_fit_start

    def _start(self, pl_module: Any) -> None:
        """Start from the loaded average, or else from a copy of the network."""
        with torch.inference_mode(False):  # in a test too: heat maps need gradients
            average = copy_of(pl_module.network)
            if self.loaded is not None:
                average.load_state_dict(self.loaded)
        self.loaded = None
        self.replace(pl_module, average)

    def replace(self, pl_module: Any, average: nn.Module) -> None:
        """Make `average` the averaged network, which is evaluated and saved."""
        self.average = pl_module.also_evaluated[prefix(self.kind)] = average

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != self.step:  # else gradients are being accumulated
            self.step = trainer.global_step
            self.update(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._prepare_evaluation(pl_module, "val")

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._prepare_evaluation(pl_module, "test")

    def _prepare_evaluation(self, pl_module: Any, split: str) -> None:
        if self.loaded is not None:
            self._start(pl_module)
        if self.average is None:
            figures = f"{split}/{prefix(self.kind)}"
            log.warning("the checkpoint has no averaged weights, so there are no %s figures", figures)

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Load the average into the network. This is safe here because nothing is saved after predictions."""
        monitored = average_of(pl_module.monitor)
        if monitored not in ("", self.kind):
            return
        weights = self.loaded if self.average is None else self.average.state_dict()  # a test has taken what was loaded
        averaged = bool(monitored) and weights is not None
        log.info("predicting with the %s weights (monitor %s)", "averaged" if averaged else "raw", pl_module.monitor)
        if averaged:
            pl_module.network.load_state_dict(weights)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        assert self.average is not None
        checkpoint[checkpoint_key(self.kind)] = dict(self.average.state_dict())

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.loaded = checkpoint.get(checkpoint_key(self.kind))
        if self.loaded is None and trainer.state.fn == "fit":
            log.warning("the checkpoint has no averaged weights: the average starts from its trained weights")


def copy_of(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode that is not trained."""
    return copy.deepcopy(network).requires_grad_(False).eval()
