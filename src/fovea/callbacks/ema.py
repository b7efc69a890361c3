"""An exponential moving average (EMA) of the weights, evaluated in addition to the trained weights.

Source: Polyak and Juditsky 1992; the decay's warm-up is TensorFlow's tf.train.ExponentialMovingAverage(num_updates).
Deviation: BatchNorm's running statistics are averaged like the weights, not recomputed.
"""

import copy
import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor, nn

log = logging.getLogger(__name__)
KEY = "state_dict_ema"


def decay_at(step: int, decay: float, warmup: int) -> float:
    """Return min(decay, (1 + step) / (warmup + step)).

    In a training that is too short for `decay`, the average covers about the last tenth of the steps.
    """
    return min(decay, (1 + step) / (warmup + step))


def monitors_average(monitor: str) -> bool:
    """Return True if the monitor is a figure of the averaged weights; predictions then use those weights."""
    return "/ema_" in monitor


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Compute a <- decay a + (1 - decay) w in place for parameters and float buffers; copy other buffers."""
    old, new = _tensors(average), _tensors(network)
    floats = [i for i, tensor in enumerate(old) if tensor.is_floating_point()]
    torch._foreach_lerp_([old[i] for i in floats], [new[i] for i in floats], 1 - decay)
    for target, source in zip(old, new, strict=True):
        if not target.is_floating_point():
            target.copy_(source)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


class EMA(Callback):
    """Updates the average after each optimizer step; validation and test log its figures as `<split>/ema_<name>`.

    The average is a separate network and never replaces the trained one during a training, so a checkpoint always has
    the trained weights in their place. It has the average under `state_dict_ema`, with the network's names. The decay
    depends on the step number alone, so nothing else has to be saved.

    If the run's monitor is a figure of the average, predictions use the average. `pl_module` is a ClassificationTask.
    """

    def __init__(self, decay: float = 0.9999, warmup: int = 10) -> None:
        """`decay` is in [0, 1), `warmup` at least 1; see `decay_at`."""
        if not 0 <= decay < 1 or warmup < 1:
            raise ValueError(f"callbacks.ema: decay={decay} must be in [0, 1) and warmup={warmup} at least 1")
        self.decay, self.warmup, self.step = decay, warmup, 0
        self.average: nn.Module | None = None
        self.loaded: Mapping[str, Tensor] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raise ValueError for weights in half precision: rounding would cancel the average's small updates."""
        halves = {p.dtype for p in pl_module.network.parameters() if p.dtype in (torch.float16, torch.bfloat16)}
        if halves:
            raise ValueError(
                f"trainer.precision={trainer.precision} stores the weights in {halves.pop()}, which is too coarse to "
                "average: use bf16-mixed or 16-mixed, or remove callbacks.ema"
            )
        self._start(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.step = trainer.global_step  # of the checkpoint, which is not loaded yet in on_fit_start

    def _start(self, pl_module: Any) -> None:
        """Start from the loaded average, or else from a copy of the network."""
        self.average = copy.deepcopy(pl_module.network).requires_grad_(False).eval()
        if self.loaded is not None:
            self.average.load_state_dict(self.loaded)
        self.loaded = None
        pl_module.also_evaluated["ema_"] = self.average

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            return  # gradients are being accumulated
        self.step = trainer.global_step
        if pl_module.counted:
            assert self.average is not None
            update_average(self.average, pl_module.network, decay_at(self.step, self.decay, self.warmup))

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._prepare_evaluation(pl_module, "val")

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._prepare_evaluation(pl_module, "test")

    def _prepare_evaluation(self, pl_module: Any, split: str) -> None:
        if self.loaded is not None:
            self._start(pl_module)
        if self.average is None:
            log.warning("the checkpoint has no averaged weights, so there are no %s/ema_ figures", split)

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Load the average into the network. This is safe here because nothing is saved after predictions."""
        weights = self.loaded if self.average is None else self.average.state_dict()  # a test has taken what was loaded
        averaged = monitors_average(pl_module.monitor) and weights is not None
        log.info("predicting with the %s weights (monitor %s)", "averaged" if averaged else "raw", pl_module.monitor)
        if averaged:
            pl_module.network.load_state_dict(weights)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        assert self.average is not None
        checkpoint[KEY] = dict(self.average.state_dict())

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.loaded = checkpoint.get(KEY)
        if self.loaded is None and trainer.state.fn == "fit":
            log.warning("the checkpoint has no averaged weights: the average starts from its trained weights")
