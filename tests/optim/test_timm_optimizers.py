"""timm's optimizers with the values of their yamls, compared with plain loops over their papers' formulas."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conf_groups import composed
from hydra.utils import instantiate
from torch import Tensor, nn

STEPS = 3


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(6, 5)


def gradient(step: int, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def trained(name: str) -> list[Tensor]:
    """The weight and the bias after some steps with given gradients."""
    cfg, net = composed(f"optimizer={name}"), network()
    optimizer = instantiate(cfg.optimizer, _convert_="all")(instantiate(cfg.parameter_groups)(net))
    for step in range(STEPS):
        for parameter in net.parameters():
            parameter.grad = gradient(step, parameter)
        optimizer.step()
    return [parameter.detach() for parameter in net.parameters()]


def lamb(w: Tensor, grads: list[Tensor], decay: float, o: Any) -> Tensor:
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m, v = o.betas[0] * m + (1 - o.betas[0]) * g, o.betas[1] * v + (1 - o.betas[1]) * g**2
        update = (m / (1 - o.betas[0] ** t)) / ((v / (1 - o.betas[1] ** t)).sqrt() + o.eps) + decay * w
        w = w - o.lr * (w.norm() / update.norm() if decay else 1.0) * update
    return w


def lars(w: Tensor, grads: list[Tensor], decay: float, o: Any) -> Tensor:
    velocity = torch.zeros_like(w)
    for g in grads:
        trust = o.trust_coeff * w.norm() / (g.norm() + decay * w.norm()) if decay else 1.0
        velocity = o.momentum * velocity + trust * (g + decay * w)
        w = w - o.lr * velocity
    return w


def lion(w: Tensor, grads: list[Tensor], decay: float, o: Any) -> Tensor:
    m = torch.zeros_like(w)
    for g in grads:
        w = w - o.lr * ((o.betas[0] * m + (1 - o.betas[0]) * g).sign() + decay * w)
        m = o.betas[1] * m + (1 - o.betas[1]) * g
    return w


@pytest.mark.parametrize("formula", [lamb, lars, lion])
def test_three_steps_follow_the_papers_formula(formula: Callable[..., Tensor]) -> None:
    options: Any = composed(f"optimizer={formula.__name__}").optimizer
    parameters = [parameter.detach() for parameter in network().parameters()]
    steps = [[gradient(step, p) for p in parameters] for step in range(STEPS)]
    if formula is lamb:  # the norm over all parameters is clipped
        norms = [math.sqrt(sum(float(g.norm()) ** 2 for g in grads)) for grads in steps]
        steps = [[g / max(1.0, norm / options.max_grad_norm) for g in grads] for grads, norm in zip(steps, norms)]
    decays = (options.weight_decay, 0.0)  # none for the bias
    expected = [formula(p, [grads[n] for grads in steps], decays[n], options) for n, p in enumerate(parameters)]
    for ours, theirs in zip(trained(formula.__name__), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_muon_makes_the_step_of_a_convolution_orthogonal_and_as_large_as_adamws() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 16, 3, bias=False)
    before, options = layer.weight.detach().clone(), composed("optimizer=muon", "optimizer.weight_decay=0.0").optimizer
    optimizer = instantiate(options, _convert_="all")(layer.parameters())
    layer.weight.grad = torch.randn_like(layer.weight)
    optimizer.step()
    step = ((before - layer.weight.detach()) / options.lr).flatten(1)  # (16, 72)
    u, _, v = torch.linalg.svd(layer.weight.grad.flatten(1), full_matrices=False)
    orthogonal = 0.2 * math.sqrt(72) * u @ v
    assert torch.cosine_similarity(step.flatten(), orthogonal.flatten(), dim=0) > 0.98
    assert 0.7 < step.norm() / orthogonal.norm() < 1.2
