"""Deferred re-weighting (DRW): the class weights of the loss apply only in the last part of a training.

Source: Cao et al. 2019, https://arxiv.org/abs/1906.07413, algorithm 1.
Deviations: the learning rate is the schedule's; validation and test losses have the class weights from the beginning,
so that the losses of all epochs, and of evaluate.py, can be compared.
"""

import logging
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

log = logging.getLogger(__name__)


class DeferredWeights(Callback):
    """Replaces the loss's class weights by ones in training batches before a step.

    A batch's weights depend on its step alone, so a resumed run needs nothing else. `pl_module` is a ClassificationTask
    whose loss has the class weights in `weight`.
    """

    def __init__(self, from_step: int | None) -> None:
        """`from_step` is the first optimizer step with class weights, counted from 0.

        Raises:
            ValueError: it is None, which is a share of a run without an end.
        """
        if from_step is None:
            raise ValueError(
                "callbacks.deferred_weights.from_step follows the run's length, but the run has no end\n"
                "Type callbacks.deferred_weights.from_step=<optimizer step>, or set trainer.max_epochs="
            )
        self.from_step = from_step
        self.weights: Tensor | None = None
        self.apply = True  # the loss has the class weights now

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raise ValueError if the loss has no class weights to defer."""
        if not isinstance(getattr(pl_module.loss.loss, "weight", None), Tensor):
            raise ValueError(
                "callbacks.deferred_weights: the loss has no class weights to defer: type loss.class_weights=effective"
            )

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights = pl_module.loss.loss.weight

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._use(pl_module, trainer.global_step >= self.from_step)
        if trainer.global_step == self.from_step and batch_idx % trainer.accumulate_grad_batches == 0:
            log.info("epoch %d: the loss has class weights from here on", trainer.current_epoch + 1)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._use(pl_module, True)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._use(pl_module, True)
        if trainer.global_step <= self.from_step:
            log.warning(
                "the training ended after %d steps, before its loss had class weights: "
                "callbacks.deferred_weights.from_step=%d",
                *(trainer.global_step, self.from_step),
            )

    def _use(self, pl_module: Any, apply: bool) -> None:
        if apply != self.apply:
            assert self.weights is not None
            pl_module.loss.loss.weight = self.weights if apply else torch.ones_like(self.weights)
            self.apply = apply
