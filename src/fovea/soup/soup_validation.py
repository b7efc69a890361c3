"""Validates averages of weights, for scripts/soup.py."""

from collections.abc import Sequence

import torch
from lightning import Trainer
from torch import Tensor

from fovea.data.loading.datamodule import ImageDataModule
from fovea.models.averaging.averages import mean_weights
from fovea.models.averaging.batch_norm import differing_layers, recompute_statistics
from fovea.runs.figure_names import split_name
from fovea.soup.candidates import Candidate
from fovea.task import ClassificationTask


class Validation:
    """Loads the average of candidates into the task's network, and measures it on the validation split.

    Attributes:
        name: the figure, val/<metric>.
    """

    def __init__(
        self, task: ClassificationTask, data: ImageDataModule, trainer: Trainer, recompute: bool = False
    ) -> None:
        """Args:
        recompute: compute an average's BatchNorm statistics from the training images, where they differ between the
            candidates; a layer that was frozen in all runs keeps its own. False: average the statistics too.
        """
        self.task, self.data, self.trainer, self.recompute = task, data, trainer, recompute
        self.name = f"val/{split_name(task.monitor.partition('/')[2])[1]}"

    def __call__(self, candidates: Sequence[Candidate]) -> float:
        """Return the figure of the average; the statistics of a single candidate are its own."""
        states = [one.weights() for one in candidates]
        self.task.network.load_state_dict(mean_weights(states))
        norms = differing_layers(self.task.network, states) if self.recompute else []
        if norms:
            self._recompute(norms)
        self.trainer.validate(self.task, datamodule=self.data, verbose=False, weights_only=True)
        return self.trainer.callback_metrics[self.name].item()

    def _recompute(self, norms: Sequence[str]) -> None:
        device = self.trainer.strategy.root_device
        network = self.task.to(device).eval().network
        images = (batch.to(device) for batch in self.data.training_images())
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            recompute_statistics(network, norms, (self.task.preprocess(one) for one in images if len(one)))

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the network's tensors, on the CPU."""
        return {name: tensor.cpu().clone() for name, tensor in self.task.network.state_dict().items()}
