"""Parameter groups of an optimizer: their parameters, weight decay and learning rate.

A frozen parameter (requires_grad False) is left out; a parameter that several layers share appears once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
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


def by_patterns(
    network: nn.Module,
    lr: float,
    weight_decay: float,
    lr_multipliers: Sequence[tuple[str, float]],
    weight_decay_multipliers: Sequence[tuple[str, float]],
) -> list[dict[str, Any]]:
    """Multiply the learning rate and the weight decay of each parameter by those of the first pattern that matches.

    A parameter that no pattern matches has the factor 1; for weight decay 0 if it is a bias or 1-dimensional, as in
    no_decay_on_norms_and_biases. There is one group for each pair of factors, in order of first appearance.

    Source: big_vision's lr_mults and wd_mults (https://github.com/google-research/big_vision). Deviations: shell
    patterns instead of regular expressions, and parameters that no pattern matches are allowed.

    Args:
        network: its trainable parameters are grouped.
        lr: the optimizer's.
        weight_decay: the optimizer's.
        lr_multipliers: (pattern, factor >= 0), in order. A pattern is the name of a parameter or module, where *
            matches anything (fc, layer4.*.bias); a module's pattern matches all of its parameters.
        weight_decay_multipliers: the same for weight decay.

    Raises:
        ValueError: a factor is negative, or a pattern decides for no trainable parameter.
    """
    names = _trainable(network)
    rates = _first_matches(names, lr_multipliers, "lr_multipliers")
    decays = _first_matches(names, weight_decay_multipliers, "weight_decay_multipliers")
    return _by_factors(network, lr, weight_decay, rates, decays)


def layer_decay(
    network: nn.Module,
    lr: float,
    weight_decay: float,
    decay: float,
    min_factor: float,
    weight_decay_multipliers: Sequence[tuple[str, float]],
    layers: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Multiply the learning rate of layer n of 0..N by max(min_factor, decay^(N - n)): the head's is `lr` itself.

    Source: Bao et al. 2022 (BEiT), https://arxiv.org/abs/2106.08254; timm's param_groups_layer_decay.

    Args:
        network: its trainable parameters are grouped.
        lr: the optimizer's.
        weight_decay: the optimizer's; biases and 1-dimensional parameters have none.
        decay: in (0, 1].
        min_factor: in [0, 1].
        weight_decay_multipliers: as in by_patterns, such as [[pos_embed, 0]].
        layers: the layer of each parameter, by name; 0 is the stem.

    Raises:
        ValueError: the network has one layer; a number is out of its range; or as for by_patterns.
    """
    if not (0 < decay <= 1 and 0 <= min_factor <= 1):
        raise ValueError(
            f"parameter_groups: decay={decay} must be above 0 and at most 1, min_factor={min_factor} in [0, 1]"
        )
    last = max(layers.values())
    if last == 0:
        raise ValueError("parameter_groups=layer_decay: the network has one layer only; choose other parameter groups")
    names = _trainable(network)
    rates = {name: max(min_factor, decay ** (last - layers[name])) for name in names}
    decays = _first_matches(names, weight_decay_multipliers, "weight_decay_multipliers")
    return _by_factors(network, lr, weight_decay, rates, decays)


def _trainable(network: nn.Module) -> list[str]:
    return [name for name, parameter in network.named_parameters() if parameter.requires_grad]


def _first_matches(names: Iterable[str], factors: Sequence[tuple[str, float]], key: str) -> dict[str, float]:
    """Return the factor of the first pattern that matches, for the names that one matches."""
    left, found = list(names), dict[str, float]()
    for pattern, factor in factors:
        matched = [name for name in left if any(fnmatchcase(prefix, pattern) for prefix in _prefixes(name))]
        if factor < 0 or not matched:
            problem = "the factor is negative" if factor < 0 else "no trainable parameter is left for this pattern"
            raise ValueError(f"parameter_groups.{key}: [{pattern}, {factor}]: {problem}; the first match decides")
        found |= dict.fromkeys(matched, float(factor))
        left = [name for name in left if name not in found]
    return found


def _prefixes(name: str) -> list[str]:
    """a.b.weight -> a, a.b, a.b.weight"""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _by_factors(
    network: nn.Module, lr: float, weight_decay: float, rates: Mapping[str, float], decays: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Make a group for each pair of factors; names without a factor have the usual one."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factors = rates.get(name, 1.0), decays.get(name, 0.0 if _has_no_decay(name, parameter) else 1.0)
            groups.setdefault(factors, []).append(parameter)
    return [
        {"params": parameters, "lr": lr * of_rate, "weight_decay": weight_decay * of_decay}
        for (of_rate, of_decay), parameters in groups.items()
    ]


def _has_no_decay(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim <= 1 or name.split(".")[-1] == "bias"


def _by_decay(network: nn.Module, include: Callable[[str], bool]) -> list[dict[str, Any]]:
    decayed: list[nn.Parameter] = []
    not_decayed: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and include(name):
            (not_decayed if _has_no_decay(name, parameter) else decayed).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": not_decayed, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
