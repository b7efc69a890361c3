"""Adaptive gradient clipping before each optimizer step."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from lightning import Callback, Trainer
from torch.optim import LBFGS

from fovea.models.weights import head
from fovea.optim.gradient_clipping import clip_adaptively


class AdaptiveGradientClipping(Callback):
    """Clips the gradients of the network's parameters by `clip_adaptively`, all but the classifier's.

    It is applied once for each optimizer step: to the mean over accumulated batches and all ranks, after the gradients
    of a 16-mixed training are unscaled, and before trainer.gradient_clip_val.
    """

    def __init__(self, clipping: float = 0.01, eps: float = 1e-3, exclude: Sequence[str] | None = None) -> None:
        """Args:
        clipping: > 0; the largest ratio of the norms of a unit's gradient and weights.
        eps: > 0; the least norm of weights.
        exclude: names of parameters that are not clipped, where * matches anything; None: the classifier's.
        """
        if clipping <= 0 or eps <= 0:
            raise ValueError(f"callbacks.agc: clipping={clipping} and eps={eps} must be above 0")
        self.clipping, self.eps, self.exclude = clipping, eps, exclude
        self.clipped: list[Any] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raise ValueError if the step can't be clipped, or if a name in `exclude` matches nothing."""
        _check_step(trainer)
        parameters = dict(pl_module.network.named_parameters())
        patterns = sorted(head.classifier_names(pl_module.network)) if self.exclude is None else self.exclude
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in parameters):
                raise ValueError(f"callbacks.agc.exclude: the network has no parameter {pattern}")
        excluded = {name for name in parameters if any(fnmatchcase(name, pattern) for pattern in patterns)}
        self.clipped = [parameter for name, parameter in parameters.items() if name not in excluded]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        clip_adaptively(self.clipped, self.clipping, self.eps)


def _check_step(trainer: Trainer) -> None:
    (optimizer,) = trainer.optimizers
    if isinstance(optimizer, LBFGS):
        raise ValueError("callbacks.agc: LBFGS needs the gradients as they are: choose another optimizer")
    if trainer.precision == "16-mixed" and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise ValueError(
            "callbacks.agc: a fused optimizer's gradients are still scaled with 16-mixed: set optimizer.fused=false"
        )
