"""An exponential moving average of the weights, evaluated beside them.

Source: Polyak and Juditsky 1992; the decay's warm-up is TensorFlow's tf.train.ExponentialMovingAverage(num_updates).
Deviation: BatchNorm's running statistics are averaged as the weights are, not recomputed.
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
    """min(decay, (1 + step) / (warmup + step)): about the last tenth of a training that is short for `decay`."""
    return min(decay, (1 + step) / (warmup + step))


def is_of_average(monitor: str) -> bool:
    """Whether it is a figure of the average; if so, predictions are the average's too."""
    return "/ema_" in monitor


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """a <- decay a + (1 - decay) w, for parameters and float buffers; other buffers are copied."""
    ours, theirs = list(_tensors(average)), list(_tensors(network))
    floats = [i for i, tensor in enumerate(ours) if tensor.is_floating_point()]
    torch._foreach_lerp_([ours[i] for i in floats], [theirs[i] for i in floats], 1 - decay)
    for mine, other in zip(ours, theirs, strict=True):
        if not mine.is_floating_point():
            mine.copy_(other)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


class EMA(Callback):
    """Averages after every optimizer step that was taken; validation and test log its figures as `<split>/ema_<name>`.

    The average is a network of its own: neither a validation nor a stop within one ever finds it in the trained
    network's place. A checkpoint holds it under `state_dict_ema`, by the network's names. What a step adds follows
    from the step's number, so nothing else has to be saved.

    Where the run's monitor is a figure of the average, predictions are the average's. `pl_module` is a
    ClassificationTask.
    """

    def __init__(self, decay: float = 0.9999, warmup: int = 10) -> None:
        """decay: in [0, 1); warmup: at least 1, see `decay_at`."""
        if not 0 <= decay < 1 or warmup < 1:
            raise ValueError(f"callbacks.ema: decay={decay} must be in [0, 1) and warmup={warmup} at least 1")
        self.decay, self.warmup, self.step = decay, warmup, 0
        self.average: nn.Module | None = None
        self.loaded: Mapping[str, Tensor] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raises ValueError where the weights are too coarse for a step of the average to show."""
        halves = {p.dtype for p in pl_module.network.parameters() if p.dtype in (torch.float16, torch.bfloat16)}
        if halves:
            raise ValueError(
                f"trainer.precision={trainer.precision} keeps the weights themselves in {halves.pop()}, too coarse to "
                "average: take bf16-mixed or 16-mixed, or leave callbacks.ema out"
            )
        self._begin(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.step = trainer.global_step  # a checkpoint's, which on_fit_start doesn't know yet

    def _begin(self, pl_module: Any) -> None:
        """A checkpoint's average, or the network as it is."""
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
        self._begin_to_evaluate(pl_module, "val")

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._begin_to_evaluate(pl_module, "test")

    def _begin_to_evaluate(self, pl_module: Any, split: str) -> None:
        if self.loaded is not None:
            self._begin(pl_module)
        if self.average is None:
            log.warning("the checkpoint has no averaged weights: there are no %s/ema_ figures", split)

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Nothing is saved after predictions: here the average may take the network's place."""
        averaged = is_of_average(pl_module.monitor) and self.loaded is not None
        log.info("predicting with the %s weights (monitor %s)", "averaged" if averaged else "raw", pl_module.monitor)
        if averaged:
            pl_module.network.load_state_dict(self.loaded)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        assert self.average is not None
        checkpoint[KEY] = dict(self.average.state_dict())

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.loaded = checkpoint.get(KEY)
        if self.loaded is None and trainer.state.fn == "fit":
            log.warning("the checkpoint has no averaged weights: averaging begins with its raw ones")
