"""Stochastic weight averaging (SWA): the mean of the weights at the ends of the last epochs.

Source: Izmailov et al. 2018, https://arxiv.org/abs/1803.05407, algorithm 1.
Deviation: BatchNorm's statistics are recomputed before each validation too, not only at the end, so that all figures of
the average are right.
"""

import logging
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from lightning import Trainer
from torch import Tensor

from fovea.callbacks.averaged_weights import AveragedWeights, copy_of
from fovea.models.averaging.averages import move_average
from fovea.models.averaging.batch_norm import recompute_statistics, running_statistics, trained_layers

log = logging.getLogger(__name__)


def averaged_weights(step: int, after_step: int, every: int) -> int:
    """Return how many weights are averaged at a step: those of the multiples of `every` in (after_step, step]."""
    return max(0, step // every - after_step // every)


class SWA(AveragedWeights):
    """Averages the weights of the optimizer steps that are multiples of `every_n_steps`, after `after_step`.

    The average is the equal mean of the weights of these steps. Until the first of them, it is the trained network
    itself.

    A checkpoint records which steps its average is of. If the resumed training averages other steps, as a prolonged run
    does, or if the checkpoint has no average, the average starts anew: only weights after the checkpoint are averaged.

    Before a validation and at the end of a training, BatchNorm's running statistics of the average are recomputed over
    an epoch of training batches of all ranks, augmented but not mixed; it is the same epoch each time. Layers that
    `freeze=` keeps are left alone. So a checkpoint of a validation and that of the end have recomputed statistics. A
    checkpoint in between that has more weights in its average than the last validation, such as one of a run that was
    interrupted, has statistics that do not fit its average.

    Attributes:
        every: `every_n_steps`, or the steps of an epoch.
        since: the average is of weights after this step: `after_step`, or the step at which the average started anew.
    """

    kind = "swa"

    def __init__(self, after_step: int | None, every_n_steps: int | None = None) -> None:
        """Args:
        after_step: >= 0. None, as in a run without an end, is refused when the training starts.
        every_n_steps: >= 1; None: the steps of an epoch.
        """
        super().__init__()
        if (after_step or 0) < 0 or (every_n_steps is not None and every_n_steps < 1):
            raise ValueError(
                f"callbacks.swa: after_step={after_step} must be at least 0, every_n_steps={every_n_steps} at least 1"
            )
        self.after_step, self.every_n_steps = after_step, every_n_steps
        self.every, self.since = 1, after_step or 0
        self.goes_on = False  # whether the checkpoint has an average
        self.saved: dict[str, int] | None = None  # `state_dict` of the checkpoint
        self.norms: list[str] = []
        self.recomputed = 0  # number of averaged weights when the statistics were recomputed last

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raise ValueError if it is not known when the averaging starts."""
        if self.after_step is None:
            raise ValueError(
                "callbacks.swa.after_step is a share of the run, but the run has no end: type a number of steps"
            )
        self.goes_on = self.loaded is not None
        super().on_fit_start(trainer, pl_module)
        self.norms, self.recomputed = trained_layers(pl_module.network), 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        steps_per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        self.every = self.every_n_steps or steps_per_epoch
        self.since = self._since(trainer)
        if not self.count(self.step):
            self.replace(pl_module, pl_module.network)

    def _since(self, trainer: Trainer) -> int:
        """Return the step after which weights are averaged; see the attribute."""
        after_step, saved, self.saved = self.after_step or 0, self.saved, None
        if self.goes_on and saved is not None:
            if (saved["after_step"], saved["every"]) == (after_step, self.every):
                return saved["since"]
            if averaged_weights(self.step, saved["since"], saved["every"]) and trainer.is_global_zero:
                log.info(
                    "callbacks.swa: the average starts anew at step %d: it is now of every %d steps after step %d, "
                    "and the checkpoint's is of every %d after step %d",
                    *(self.step, self.every, max(after_step, self.step), saved["every"], saved["after_step"]),
                )
        return max(after_step, self.step)

    def state_dict(self) -> dict[str, int]:
        return {"after_step": self.after_step or 0, "every": self.every, "since": self.since}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.saved = state_dict

    def count(self, step: int) -> int:
        """Return how many weights are averaged at a step."""
        return averaged_weights(step, self.since, self.every)

    def update(self, pl_module: Any) -> None:
        """Add the weights to the average if it is their turn."""
        n = self.count(self.step)
        if n == self.count(self.step - 1):
            return
        if n == 1:
            self.replace(pl_module, copy_of(pl_module.network))
            return
        assert self.average is not None
        move_average(self.average, pl_module.network, 1 / n)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_validation_start(trainer, pl_module)
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._recompute_if_changed(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Recompute if the training stops here, because SaveLast makes the checkpoint of an unfinished epoch next."""
        if trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step:
            self._recompute_if_changed(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._recompute_if_changed(trainer, pl_module)

    def _recompute_if_changed(self, trainer: Trainer, pl_module: Any) -> None:
        n = self.count(self.step)
        if self.norms and n != self.recomputed:
            self._recompute(trainer, pl_module)
            self.recomputed = n

    def _recompute(self, trainer: Trainer, pl_module: Any) -> None:
        """Recompute the statistics; each batch of each rank has the same weight. All ranks must call this."""
        assert self.average is not None
        if not self.recomputed and trainer.is_global_zero:
            log.info(
                "BatchNorm's statistics of the average are computed from images: before validations and at the end"
            )
        with trainer.precision_plugin.forward_context():
            recompute_statistics(self.average, self.norms, _inputs(trainer, pl_module))
        for tensor in running_statistics(self.average, self.norms):
            tensor.copy_(trainer.strategy.reduce(tensor, reduce_op="mean"))


def _inputs(trainer: Trainer, pl_module: Any) -> Iterator[Tensor]:
    """Yield the network's inputs (B, 3, H, W) of an epoch, as many as trainer.limit_train_batches lets through."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    for images in islice(data.training_images(), int(trainer.num_training_batches)):
        if len(images):  # none if no image of a batch can be read, with data.on_error=skip
            yield pl_module.preprocess(images.to(pl_module.device))
