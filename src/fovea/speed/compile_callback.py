"""Compiles the networks of a training or an evaluation while it goes on."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import nn

from fovea.speed.compiled_network import CompiledCall, call_compiled, compile_network, uncompile


class CompileNetworks(Callback):
    """Compiles the trained network, and the averaged one that is evaluated beside it; outside of the trainer's loops
    they run uncompiled, for the hooks of Grad-CAM and of features.

    Its place is after the callbacks that add networks to `pl_module.also_evaluated`.
    """

    def __init__(self, batch_sizes: Sequence[int], backend: Any = "inductor") -> None:
        """Args:
        batch_sizes: of the training's epochs, over all devices; the last one is that of evaluations too.
        backend: what torch.compile takes.
        """
        self.batch_sizes, self.backend = batch_sizes, backend
        self.calls: dict[nn.Module, CompiledCall] = {}  # of each network, since the last `setup`

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            torch.compiler.reset()  # torch limits how often it compiles, and a sweep has many trainings in a process
        self.calls = {}
        self._compile(trainer, pl_module.network)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        for network in pl_module.also_evaluated.values():
            self._compile(trainer, network)

    on_test_start = on_validation_start

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        for network in pl_module.also_evaluated.values():
            if network is not pl_module.network:  # SWA's average is the trained network until it has begun
                uncompile(network)  # a callback may use it otherwise, as to recompute BatchNorm's statistics

    on_test_end = on_validation_end

    def _compile(self, trainer: Trainer, network: nn.Module) -> None:
        if network in self.calls:
            call_compiled(network, self.calls[network])
        else:
            sizes = [size // trainer.world_size for size in self.batch_sizes]
            self.calls[network] = compile_network(network, sizes, self.backend)

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        for network in (pl_module.network, *pl_module.also_evaluated.values()):
            uncompile(network)
