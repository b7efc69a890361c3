"""Compiles the networks of a training or an evaluation while it goes on."""

from typing import Any

import torch
from lightning import Callback, Trainer
from torch import nn

from fovea.speed.compiled_network import compile_network, is_compiled, uncompile


class CompileNetworks(Callback):
    """Compiles the trained network, and the averaged one that is evaluated beside it; outside of the trainer's loops
    they run uncompiled, for the hooks of Grad-CAM and of features.

    Its place is after the callbacks that add networks to `pl_module.also_evaluated`.
    """

    def __init__(self, batch_size: int, backend: Any = "inductor") -> None:
        """`batch_size` is over all devices; `backend` is what torch.compile takes."""
        self.batch_size, self.backend = batch_size, backend

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            torch.compiler.reset()  # torch limits how often it compiles, and a sweep has many trainings in a process
        self._compile(trainer, pl_module.network)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        for network in pl_module.also_evaluated.values():
            self._compile(trainer, network)

    on_test_start = on_validation_start

    def _compile(self, trainer: Trainer, network: nn.Module) -> None:
        if not is_compiled(network):
            compile_network(network, self.batch_size // trainer.world_size, self.backend)

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        for network in (pl_module.network, *pl_module.also_evaluated.values()):
            uncompile(network)
