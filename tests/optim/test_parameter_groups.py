"""Each trainable parameter is in exactly one group, with the right weight decay."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.optim import param_groups_weight_decay
from torch import nn

from fovea.optim.parameter_groups import all_parameters, no_decay_on_norms_and_biases


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
