"""Freezes parts of a network for the first epochs of a training."""

import logging
from collections.abc import Collection, Sequence
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import nn
from torch.utils.hooks import RemovableHandle

from fovea.models.freeze import evaluate_frozen, matching

log = logging.getLogger(__name__)
KEY = "callbacks.unfreeze.frozen_epochs"


def epochs_by_name(network: nn.Module, frozen_epochs: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Return the number of epochs in which a parameter is frozen, by name; the first pattern that matches decides.

    Parameters that are not trainable, and those that no pattern matches, are left out.

    Raises:
        ValueError: a number is below 1; the network has no such part; a pattern decides for no trainable parameter; or
            in the first epoch nothing would be trained.
    """
    left = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    found: dict[str, int] = {}
    for pattern, epochs in frozen_epochs:
        names = matching(network, pattern, KEY) & left
        if epochs < 1 or not names:
            problem = "give at least one epoch" if epochs < 1 else "no trainable parameter is left for this name"
            raise ValueError(f"{KEY}: [{pattern}, {epochs}]: {problem}; the first match decides")
        found |= dict.fromkeys(names, epochs)
        left -= names
    if not left:
        raise ValueError(f"{KEY}: in the first epoch every parameter would be frozen; leave some out")
    return found


class Unfreeze(Callback):
    """Freezes parameters until their epoch, with the BatchNorm statistics and dropout of the modules around them.

    What is frozen is a function of the epoch alone, so nothing has to be saved. The optimizer holds all parameters from
    the start. A frozen one has no gradient, for which optimizers apply neither weight decay nor momentum.

    On one device frozen parameters need no gradient, which saves time. DDP waits for the gradients of all parameters
    that needed them when it was set up; there hooks make them 0, so that an objective that uses gradients (SAM) gets
    none of them, and they are removed before the step.
    """

    def __init__(self, frozen_epochs: Sequence[tuple[str, int]]) -> None:
        """`frozen_epochs`: (name of a module or parameter, or "backbone", as for `freeze`; number of epochs, >= 1)."""
        self.frozen_epochs = frozen_epochs
        self.epochs: dict[str, int] = {}
        self.always: set[str] = set()  # frozen for the whole run, by freeze=
        self.frozen: set[str] | None = None
        self.hooks: list[RemovableHandle] = []

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.epochs = epochs_by_name(pl_module.network, self.frozen_epochs)
        self.always = {name for name, p in pl_module.network.named_parameters() if not p.requires_grad}
        longest, end = max(self.epochs.values(), default=0), trainer.max_epochs
        if end is not None and 0 <= end <= longest and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            log.warning("%s: the run has %d epochs, so what is frozen for %d is never trained", KEY, end, longest)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._freeze(trainer, pl_module.network)  # also where a run is resumed in the midst of an epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._freeze(trainer, pl_module.network)

    def _freeze(self, trainer: Trainer, network: nn.Module) -> None:
        frozen = {name for name, epochs in self.epochs.items() if trainer.current_epoch < epochs}
        if frozen == self.frozen:
            return
        self.frozen = frozen
        network.train()
        evaluate_frozen(network, frozen | self.always)
        if trainer.world_size == 1:
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name not in frozen and name not in self.always)
        else:
            for hook in self.hooks:
                hook.remove()
            parameters = dict(network.named_parameters())
            self.hooks = [parameters[name].register_hook(torch.zeros_like) for name in frozen]
        if trainer.is_global_zero:
            _log_trained(network, frozen | self.always, trainer.current_epoch + 1)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        if trainer.world_size > 1 and self.frozen:
            for name, parameter in pl_module.network.named_parameters():
                if name in self.frozen:
                    parameter.grad = None


def _log_trained(network: nn.Module, frozen: Collection[str], epoch: int) -> None:
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    trained = sum(size for name, size in sizes.items() if name not in frozen)
    log.info("from epoch %d on, %s of %s parameters are trained", epoch, f"{trained:,}", f"{sum(sizes.values()):,}")
