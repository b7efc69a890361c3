"""Each trainable parameter is in exactly one group, with the right weight decay."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from conf_groups import composed
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from fovea import build
from fovea.models.layer_order import layer_numbers
from fovea.optim.parameter_groups import all_parameters, by_patterns, layer_decay, no_decay_on_norms_and_biases


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))


def test_weights_decay_and_norms_and_biases_do_not() -> None:
    net = network()
    decayed, others = no_decay_on_norms_and_biases(net)
    assert list(decayed) == ["params"]  # the optimizer's own weight decay
    assert [p is q for p, q in zip(decayed["params"], [net[0].weight, net[4].weight], strict=True)] == [True] * 2
    assert others["weight_decay"] == 0.0
    expected = [net[0].bias, net[1].weight, net[1].bias, net[4].bias]
    assert [p is q for p, q in zip(others["params"], expected, strict=True)] == [True] * 4


def test_the_rule_equals_timms() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm((2, 2))  # a two-dimensional weight and bias
            self.scale = nn.Parameter(torch.ones(()))
            self.bias_table = nn.Parameter(torch.ones(3, 2))

    net = nn.Sequential(Odd(), network())
    ours = {
        id(p): group.get("weight_decay", 0.1) for group in no_decay_on_norms_and_biases(net) for p in group["params"]
    }
    timms = {id(p): group["weight_decay"] for group in param_groups_weight_decay(net, 0.1) for p in group["params"]}
    assert ours == timms


def test_only_the_decaying_group_shrinks_without_a_gradient() -> None:
    net = network()
    optimizer = torch.optim.SGD(no_decay_on_norms_and_biases(net), lr=0.5, weight_decay=0.1)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in net.named_parameters():
        factor = 0.95 if name in ("0.weight", "4.weight") else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)


@pytest.mark.parametrize("groups", [all_parameters, no_decay_on_norms_and_biases])
def test_a_frozen_parameter_is_left_out_and_a_shared_one_appears_once(groups: Callable[[nn.Module], Any]) -> None:
    net = nn.Sequential(network(), nn.Linear(2, 2), nn.Linear(2, 2))
    net[2].weight = net[1].weight
    net[0][0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(groups(net), lr=0.1)  # refuses duplicates
    given = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(given) == sorted(id(p) for p in net.parameters() if p.requires_grad)


def test_an_empty_group_is_left_out() -> None:
    assert len(no_decay_on_norms_and_biases(nn.Linear(2, 2, bias=False))) == 1
    assert len(no_decay_on_norms_and_biases(nn.BatchNorm2d(2))) == 1


def settings(net: nn.Module, groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """The learning rate and the weight decay of each parameter that is in exactly one group."""
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups)
    return {name: found[id(p)] for name, p in net.named_parameters() if id(p) in found}


def test_the_first_pattern_that_matches_decides_and_names_of_modules_match_their_parameters() -> None:
    rates = [("4", 1.0), ("*.bias", 0.5), ("*", 0.1)]
    found = settings(net := network(), by_patterns(net, 0.4, 0.2, rates, [("1", 0.5), ("4.weight", 0.0)]))
    expected: dict[str, tuple[float, float]] = {}
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"):  # a plain list of the rules
        rate = 1.0 if name.startswith("4.") else 0.5 if name.endswith("bias") else 0.1
        decay = {"0.weight": 1.0, "1.weight": 0.5, "1.bias": 0.5}.get(name, 0.0)
        expected[name] = (pytest.approx(0.4 * rate), pytest.approx(0.2 * decay))  # type: ignore[assignment]
    assert found == expected


def test_without_patterns_the_groups_are_those_of_no_decay_on_norms_and_biases() -> None:
    net = network()
    usual = no_decay_on_norms_and_biases(net)
    ours = by_patterns(net, 0.4, 0.2, [], [])
    assert [[id(p) for p in group["params"]] for group in ours] == [[id(p) for p in g["params"]] for g in usual]
    assert [(group["lr"], group["weight_decay"]) for group in ours] == [(0.4, 0.2), (0.4, 0.0)]


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ([("9", 1.0)], r"lr_multipliers: \[9, 1.0\]: no trainable parameter is left"),
        ([("*", 1.0), ("4", 1.0)], r"\[4, 1.0\]: no trainable parameter is left .* the first match decides"),
        ([("1", 0.5)], r"\[1, 0.5\]: no trainable parameter"),  # it is frozen
        ([("4", -1.0)], "the factor is negative"),
    ],
)
def test_a_pattern_that_decides_for_nothing_is_refused(rates: list[tuple[str, float]], said: str) -> None:
    net = network()
    net[1].requires_grad_(False)
    with pytest.raises(ValueError, match=said):
        by_patterns(net, 0.4, 0.2, rates, [])


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_layer_decay_equals_timms(name: str) -> None:
    with torch.device("meta"):
        net = timm.create_model(name)
    theirs = param_groups_layer_decay(net, weight_decay=0.05, layer_decay=0.7, min_scale=0.01)
    theirs = [{**group, "lr": 0.4 * group["lr_scale"]} for group in theirs]
    ours = layer_decay(net, 0.4, 0.05, 0.7, 0.01, [], layer_numbers(net))
    expected = settings(net, theirs)
    assert settings(net, ours) == {name: pytest.approx(values) for name, values in expected.items()}


def test_layer_decay_takes_patterns_for_the_weight_decay_and_leaves_frozen_layers_out() -> None:
    net = network()
    net[0].requires_grad_(False)
    found = settings(net, layer_decay(net, 1.0, 0.1, 0.5, 0.0, [("4.weight", 0.0)], layer_numbers(net)))
    assert found == {"1.weight": (0.5, 0), "1.bias": (0.5, 0), "4.weight": (1.0, 0), "4.bias": (1.0, 0)}


def test_a_network_of_one_layer_and_numbers_out_of_range_are_refused() -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="one layer only"):
        layer_decay(net, 1.0, 0.1, 0.5, 0.0, [], layer_numbers(net))
    with pytest.raises(ValueError, match="decay=1.5"):
        layer_decay(net, 1.0, 0.1, 1.5, 0.0, [], layer_numbers(net))


def test_the_config_decays_the_rate_from_the_head_to_the_stem() -> None:
    cfg = composed("data=digits", "parameter_groups=layer_decay", "parameter_groups.decay=0.5", "optimizer.lr=1.0")
    task = build.task(cfg)
    optimizer = task.configure_optimizers()["optimizer"]
    numbers = layer_numbers(task.network)
    rates = {name: rate for name, (rate, _) in settings(task.network, optimizer.param_groups).items()}
    last = max(numbers.values())
    assert rates == {name: pytest.approx(0.5 ** (last - number)) for name, number in numbers.items()}
