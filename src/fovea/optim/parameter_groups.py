"""Parameter groups of an optimizer: their parameters, weight decay and learning rate.

A frozen parameter (requires_grad False) is left out; a parameter that several layers share appears once.
"""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn


def all_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return every trainable parameter, for one group with the optimizer's own settings."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def no_decay_on_norms_and_biases(network: nn.Module) -> list[dict[str, Any]]:
    """Return two groups: one with the optimizer's weight decay, one without decay for biases and 1-dimensional tensors.

    1-dimensional tensors are mostly the scales and shifts of normalisation layers. An empty group is left out.

    Source: Goyal et al. 2017, https://arxiv.org/abs/1706.02677; the rule is timm's param_groups_weight_decay
    (https://github.com/huggingface/pytorch-image-models, timm/optim/_param_groups.py). Deviation: the names
    that a network lists in no_weight_decay(), such as position embeddings, are not used.
    """
    return _by_decay(network, lambda name: True)


def head_faster(
    network: nn.Module, lr: float, backbone_factor: float, classifier: Sequence[str]
) -> list[dict[str, Any]]:
    """Give the classifier the learning rate `lr` and the other parameters `backbone_factor * lr`.

    Both are split into two groups as in no_decay_on_norms_and_biases; the classifier's groups come last.

    Args:
        classifier: names of the classifier's parameters, where * matches anything (fc.*).

    Raises:
        ValueError: no trainable parameter has such a name.
    """

    def in_classifier(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in classifier)

    head = _by_decay(network, in_classifier)
    if not head:
        raise ValueError(f"parameter_groups.classifier={list(classifier)}: no trainable parameter has such a name")
    backbone = _by_decay(network, lambda name: not in_classifier(name))
    return [group | {"lr": backbone_factor * lr} for group in backbone] + [group | {"lr": lr} for group in head]


def _by_decay(network: nn.Module, include: Callable[[str], bool]) -> list[dict[str, Any]]:
    decayed: list[nn.Parameter] = []
    not_decayed: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and include(name):
            exempt = parameter.ndim <= 1 or name.split(".")[-1] == "bias"
            (not_decayed if exempt else decayed).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": not_decayed, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
