"""Every yaml of conf/optimizer trains a small network, with parameter groups that it can take."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

CONF = Path(__file__).resolve().parents[2] / "conf"
OPTIMIZERS = [
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asgd",
    "lbfgs",
    "nadam",
    "radam",
]
OPTIMIZERS += ["rmsprop", "rprop", "sgd"]
PAIRS = [(name, "no_decay_on_norms_and_biases") for name in OPTIMIZERS if name != "lbfgs"]
PAIRS += [("lbfgs", "all"), ("sgd", "all")]


def load(group: str, name: str) -> Any:
    config = OmegaConf.load(CONF / group / f"{name}.yaml")
    config.pop("defaults", None)
    return config


def trainable() -> tuple[nn.Module, Callable[[], Tensor]]:
    torch.manual_seed(0)
    images, labels = torch.randn(16, 3, 6, 6), torch.arange(16) % 3
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3))
    return network, lambda: F.cross_entropy(network(images), labels)


def build(name: str, groups: str, network: nn.Module) -> Optimizer:
    return instantiate(load("optimizer", name))(instantiate(load("parameter_groups", groups))(network))


def test_there_is_a_yaml_for_each_optimizer_of_torch_that_can_train_a_network() -> None:
    """SparseAdam takes only sparse gradients, Muon only matrices."""
    assert sorted(file.stem for file in (CONF / "optimizer").glob("*.yaml")) == OPTIMIZERS


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "groups"), PAIRS)
def test_forty_steps_lower_the_loss(name: str, groups: str) -> None:
    network, loss = trainable()
    optimizer = build(name, groups, network)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    first = loss().item()
    for _ in range(40):
        optimizer.step(closure)
    assert loss().item() < 0.95 * first


@pytest.mark.parametrize(("name", "groups"), PAIRS)
def test_the_state_is_plain_and_loads_safely(name: str, groups: str) -> None:
    optimizer = build(name, groups, trainable()[0])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["param_groups"] == optimizer.state_dict()["param_groups"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_number_is_a_float_where_a_fraction_may_be_typed(name: str) -> None:
    """An int would make the config refuse optimizer.lr=0.5 as the wrong type."""
    config = load("optimizer", name)
    assert {key for key, value in config.items() if type(value) is int} <= {"max_iter", "history_size"}


def test_lbfgs_brings_the_parameter_groups_that_it_can_take(tmp_path: Path) -> None:
    """Composed as train.yaml does, where an optimizer follows the parameter groups."""
    defaults = ["_self_", {"parameter_groups": "no_decay_on_norms_and_biases"}, {"optimizer": "sgd"}]
    primary = {"defaults": defaults, "hydra": {"searchpath": [f"file://{CONF}"]}}
    OmegaConf.save(primary, tmp_path / "primary.yaml")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        sgd, lbfgs = compose("primary"), compose("primary", ["optimizer=lbfgs"])
    assert sgd.parameter_groups == load("parameter_groups", "no_decay_on_norms_and_biases")
    assert lbfgs.parameter_groups == load("parameter_groups", "all")
