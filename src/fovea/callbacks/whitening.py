"""Gives a network's first convolution the filters that whiten the training images, and freezes them."""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor, nn

from fovea.models.patch_whitening import patch_products, whitening_filters

log = logging.getLogger(__name__)


class Whitening(Callback):
    """Computes the filters before a training, from the inputs of its first steps: `models.patch_whitening`.

    A resumed training gets the filters of its checkpoint, which is loaded later. `pl_module` is a ClassificationTask.
    """

    def __init__(self, layer: str, images: int = 5000, epsilon: float = 5e-4) -> None:
        """Args:
        layer: name of a convolution with 2D filters, if a patch has D = channels * height * width values.
        images: about how many training images the filters are computed from.
        epsilon: see `whitening_filters`.
        """
        self.layer, self.images, self.epsilon = layer, images, epsilon

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Set and freeze the filters; before the optimizer is made, which leaves frozen weights out."""
        if stage != "fit":
            return
        conv = convolution(pl_module.network, self.layer)
        if pl_module.config.get("weights"):
            raise ValueError(
                f"callbacks.whitening: weights={pl_module.config['weights']} loads the filters of {self.layer}, which "
                "whitening would replace: remove one of the two"
            )
        values = conv.weight[0].numel()  # D
        total, count = torch.zeros(values, values, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for images in self._inputs(trainer, pl_module):
            products, patches = patch_products(images, conv.kernel_size)
            total, count = total + products, count + patches
        total, count = _sum_over_ranks(trainer, total), _sum_over_ranks(trainer, count)
        filters = whitening_filters(total / count, self.epsilon)  # (2D, D)
        if not filters.isfinite().all():
            raise ValueError(
                f"callbacks.whitening.epsilon={self.epsilon}: the filters of {self.layer} would not be finite, as some "
                "patterns never occur in the images: choose a larger one, such as 5e-4"
            )
        with torch.no_grad():
            conv.weight.copy_(filters.view_as(conv.weight))
        conv.weight.requires_grad_(False)
        log.info("%s whitens the images: %d filters of %d patches", self.layer, len(filters), int(count))

    def _inputs(self, trainer: Trainer, pl_module: Any) -> Iterator[Tensor]:
        """Yield this rank's share of the network's inputs (B, 3, H, W), until all ranks have `images` or all."""
        left = self.images
        for images in trainer.datamodule.training_images():  # type: ignore[attr-defined]
            yield pl_module.preprocess(images.cpu())
            left -= len(images) * trainer.world_size
            if left <= 0:
                return


def _sum_over_ranks(trainer: Trainer, value: Tensor) -> Tensor:
    if trainer.world_size == 1:
        return value  # float64, which an mps device lacks
    summed: Tensor = trainer.strategy.reduce(value.to(trainer.strategy.root_device), reduce_op="sum")
    return summed.cpu()


def convolution(network: nn.Module, name: str) -> nn.Conv2d:
    """Return the convolution with this name.

    Raises:
        ValueError: there is no such convolution, or it can't hold whitening filters.
    """
    layer = dict(network.named_modules()).get(name)
    key = f"callbacks.whitening.layer={name}"
    if not isinstance(layer, nn.Conv2d):
        found = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
        first = f"its first is {found[0]}" if found else "it has none"
        raise ValueError(f"{key}: the network has no such convolution; {first}; model=airbench has one")
    if layer.out_channels != 2 * layer.weight[0].numel():
        raise ValueError(
            f"{key}: it has {layer.out_channels} filters, but whitening needs two for each of the "
            f"{layer.weight[0].numel()} values of a patch: model=airbench has such a layer"
        )
    return layer
