"""Adaptive gradient clipping, compared with timm's and with a plain loop over units."""

import copy

import pytest
import torch
from timm.utils.agc import adaptive_clip_grad
from torch import nn

from fovea.optim.gradient_clipping import clip_adaptively


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))
    net.scale = nn.Parameter(torch.tensor(0.5))
    nn.init.zeros_(dict(net.named_parameters())["1.bias"])  # eps is what is left to be relative to
    for n, parameter in enumerate(net.parameters()):
        parameter.grad = torch.randn_like(parameter) * 10.0 ** (n % 3 - 2)
    return net


def gradients(net: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad for parameter in net.parameters()]


@pytest.mark.parametrize("clipping", [0.001, 0.05, 10.0])
def test_the_clipped_gradients_equal_timms(clipping: float) -> None:
    ours, theirs = network(), network()
    clip_adaptively(ours.parameters(), clipping, eps=1e-3)
    adaptive_clip_grad(theirs.parameters(), clipping, eps=1e-3)
    for a, b in zip(gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(a, b)


def test_each_units_gradient_is_at_most_its_share_of_the_weights_and_keeps_its_direction() -> None:
    net = network()
    before = copy.deepcopy(gradients(net))
    clip_adaptively(net.parameters(), clipping=0.05, eps=1e-3)
    counts = {"clipped": 0, "kept": 0}
    for parameter, old in zip(net.parameters(), before, strict=True):
        units = range(len(parameter)) if parameter.ndim > 1 else [...]
        for unit in units:
            weight, was, now = parameter[unit].detach(), old[unit], parameter.grad[unit]
            allowed = 0.05 * max(weight.norm().item(), 1e-3)
            if was.norm() <= allowed:
                counts["kept"] += 1
                assert torch.equal(was, now)
            else:
                counts["clipped"] += 1
                torch.testing.assert_close(now, was * allowed / was.norm())
    assert min(counts.values()) > 0


def test_a_parameter_without_a_gradient_and_a_gradient_of_zero_stay_as_they_are() -> None:
    net = nn.Linear(2, 2)
    net.weight.grad = torch.zeros(2, 2)
    clip_adaptively(net.parameters())
    assert net.bias.grad is None
    assert torch.equal(net.weight.grad, torch.zeros(2, 2))
