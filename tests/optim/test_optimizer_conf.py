"""Each yaml of conf/optimizer trains a small network, with parameter groups that it supports."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conf_groups import GROUPS, composed
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from fovea.parts import optimization_parts

OURS = ["adam", "adamp", "adamw", "lamb", "lars", "lbfgs", "lion", "muon", "rmsprop", "sgd"]
AS_ADAM = ["Adamax", "NAdam", "RAdam"]  # conf/optimizer/adam.yaml says that they take its arguments
FRACTIONS = {"lr", "weight_decay", "momentum", "dampening", "eps", "alpha", "rho"}


def trainable() -> tuple[nn.Module, Callable[[], Tensor]]:
    torch.manual_seed(0)
    images, labels = torch.randn(16, 3, 6, 6), torch.arange(16) % 3
    conv = nn.Conv2d(
        3, 8, 3, bias=False
    )  # before BatchNorm a bias has a gradient of rounding errors, which Adam enlarges
    network = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3))
    return network, lambda: F.cross_entropy(network(images), labels)


def build(network: nn.Module, *overrides: str) -> Optimizer:
    """Build it with the parameter groups of the optimizer's yaml, or of an override."""
    cfg = composed(*overrides)
    return optimization_parts.optimizer(cfg.optimizer)(instantiate(cfg.parameter_groups)(network))


def train(optimizer: Optimizer, loss: Callable[[], Tensor], steps: int) -> None:
    def closure() -> Any:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(steps):
        optimizer.step(closure)


@pytest.mark.parametrize("name", GROUPS["optimizer"])
def test_every_optimizer_changes_the_weights_and_its_state_loads_with_weights_only(name: str) -> None:
    network, loss = trainable()
    optimizer = build(network, f"optimizer={name}")
    before = [parameter.clone() for parameter in network.parameters()]
    train(optimizer, loss, steps=3)
    assert loss().isfinite()
    assert not all(torch.equal(was, now) for was, now in zip(before, network.parameters(), strict=True))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert loaded["param_groups"] == optimizer.state_dict()["param_groups"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "overrides",
    [
        *([f"optimizer={name}"] for name in OURS),
        *(["optimizer=adam", f"optimizer._target_=torch.optim.{name}"] for name in AS_ADAM),
        ["parameter_groups=all"],
    ],
    ids=" ".join,
)
def test_forty_steps_lower_the_loss(overrides: list[str]) -> None:
    network, loss = trainable()
    first = loss().item()
    train(build(network, *overrides), loss, steps=40)
    assert loss().item() < 0.95 * first


@pytest.mark.parametrize("name", GROUPS["optimizer"])
def test_numbers_that_may_be_fractions_are_floats_in_the_yaml(name: str) -> None:
    """An int would make the config refuse optimizer.lr=0.5 as the wrong type."""
    config = composed(f"optimizer={name}").optimizer
    assert not {key for key, value in config.items() if type(value) is int} & FRACTIONS


def test_lbfgs_selects_the_parameter_groups_that_it_supports() -> None:
    all_at_once, apart = (composed(f"optimizer={name}").parameter_groups._target_ for name in ("lbfgs", "sgd"))
    assert all_at_once.endswith(".all_parameters")
    assert apart.endswith(".no_decay_on_norms_and_biases")


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_fused_step_is_the_same_step(name: str) -> None:
    weights = []
    for fused in ("null", "true"):
        network, loss = trainable()
        optimizer = build(network, f"optimizer={name}", f"optimizer.fused={fused}")
        assert optimizer.defaults["fused"] is (True if fused == "true" else None)
        train(optimizer, loss, steps=3)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)
