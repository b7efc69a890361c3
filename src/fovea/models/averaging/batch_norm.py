"""Recomputes BatchNorm's running statistics, which an average of weights needs."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def trained_layers(network: nn.Module) -> list[str]:
    """Return the names of the BatchNorm layers that update running statistics in the network's present mode."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
    ]


def differing_layers(network: nn.Module, states: Sequence[Mapping[str, Tensor]]) -> list[str]:
    """Return the names of the BatchNorm layers whose running statistics differ between state dicts of the network."""
    names = [name for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    return [name for name in names if any(not _same_statistics(name, states[0], state) for state in states[1:])]


def _same_statistics(layer: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    keys = [f"{layer}.{name}" for name in ("running_mean", "running_var")]
    return all(torch.equal(one[key], other[key]) for key in keys if key in one)  # else the layer has none


@torch.no_grad()
def recompute_statistics(network: nn.Module, layers: Collection[str], batches: Iterable[Tensor]) -> None:
    """Set the layers' running statistics to their mean over the batches, each with the weight of one batch.

    The layers normalise by the batch, as in training. All other modules, dropout too, are in evaluation mode.

    Source: Izmailov et al. 2018, https://arxiv.org/abs/1803.05407, section 3.2, as torch.optim.swa_utils.update_bn.
    Deviation: dropout is off, so the statistics are those of the network that is evaluated.

    Args:
        network: in evaluation mode, to which it returns.
        layers: names of BatchNorm layers.
        batches: the network's input, (B, 3, H, W) each.
    """
    norms = [network.get_submodule(name) for name in layers]
    momenta = {norm: norm.momentum for norm in norms}
    for norm in norms:
        assert isinstance(norm, _BatchNorm)
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # the mean of all batches
    try:
        for images in batches:
            network(images)
    finally:
        for norm in norms:
            norm.momentum = momenta[norm]
            norm.eval()


def running_statistics(network: nn.Module, layers: Collection[str]) -> list[Tensor]:
    """Return the layers' running means and variances."""
    norms = [network.get_submodule(name) for name in layers]
    found = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var)]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]
