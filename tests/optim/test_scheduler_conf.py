"""The learning rates that every yaml of conf/scheduler gives, against closed forms."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from fovea.config.resolvers import register_resolvers

CONF = Path(__file__).resolve().parents[2] / "conf" / "scheduler"
YAMLS = sorted(file.stem for file in CONF.glob("*.yaml"))
LR, N = 0.8, 10
ROOT = {
    "trainer": {"max_epochs": N},
    "total_steps": N,
    "optimizer": {"lr": LR},
    "mode": "max",
}


def sgd() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)


def build(name: str, **changes: Any) -> LRScheduler:
    """As the config does it: `interval` is not the scheduler's own."""
    register_resolvers()
    config = OmegaConf.merge(ROOT, {"scheduler": OmegaConf.load(CONF / f"{name}.yaml")}, {"scheduler": changes})
    assert config.scheduler.pop("interval") in ("epoch", "step")
    return instantiate(config.scheduler)(sgd())


def rates(scheduler: LRScheduler, steps: int = N) -> list[float]:
    values = []
    for _ in range(steps):
        values.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return values


def cosine(x: float) -> float:
    return (1 + math.cos(math.pi * x)) / 2


CASES: dict[str, tuple[dict[str, Any], Callable[[int], float]]] = {
    "step": ({"step_size": 3}, lambda s: 0.1 ** (s // 3)),
    "multistep": ({"milestones": [2, 5]}, lambda s: 0.1 ** ((s >= 2) + (s >= 5))),
    "constant": ({}, lambda s: 1.0),
    "constant_lr": ({}, lambda s: 0.1 if s < 5 else 1.0),
    "linear": ({}, lambda s: 1 - s / N),
    "exponential": ({}, lambda s: 0.95**s),
    "multiplicative": ({}, lambda s: 0.95**s),
    "cosine": ({}, lambda s: cosine(s / N)),
    "cosine_restarts": ({"T_0": 3}, lambda s: cosine(s / 3 if s < 3 else (s - 3) / 6 if s < 9 else 0)),
    "polynomial": ({}, lambda s: (1 - s / N) ** 2),
    "cyclic": ({"step_size_up": 2}, lambda s: [0, 0.5, 1, 0.5][s % 4]),
    "swalr": ({"swa_lr": LR / 4, "anneal_epochs": 4}, lambda s: 0.25 + 0.75 * cosine(min(1, s / 4))),
    "warmup_cosine": ({"warmup": 0.3}, lambda s: (s + 1) / 4 if s < 3 else cosine((s - 3) / 7)),
    "sequential": ({}, lambda s: 0.1 + 0.9 * s / 5 if s < 5 else 1.0),
    "chained": ({}, lambda s: min(1.0, 0.1 + 0.9 * s / 5) * 0.95**s),
    "inverse_square_root": (
        {"lr_lambda": {"warmup_steps": 4}},
        lambda s: min((s + 1) / 4, math.sqrt(4 / (s + 1))),
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CASES)
def test_the_learning_rates_are_the_formulas(name: str) -> None:
    changes, factor = CASES[name]
    assert rates(build(name, **changes)) == pytest.approx([LR * factor(s) for s in range(N)], abs=1e-9)


def test_one_cycle_is_torchs_with_the_optimizers_rate_as_its_peak() -> None:
    values = rates(build("one_cycle"), N - 1)  # torch's refuses a step past the end
    assert values == pytest.approx(rates(OneCycleLR(sgd(), max_lr=LR, total_steps=N), N - 1))
    assert max(values) == pytest.approx(LR)
    assert values[0] == pytest.approx(LR / 25)


def test_plateau_follows_the_monitor_in_its_direction() -> None:
    scheduler = build("plateau", patience=1)
    values = []
    for accuracy in (0.5, 0.6, 0.6, 0.6, 0.7, 0.6):  # one epoch without a better one is let pass
        scheduler.step(accuracy)
        values.append(scheduler.optimizer.param_groups[0]["lr"])
    assert values == pytest.approx([LR, LR, LR, LR / 10, LR / 10, LR / 10])


def test_every_yaml_is_tried() -> None:
    assert sorted([*CASES, "one_cycle", "plateau"]) == YAMLS


@pytest.mark.parametrize("name", YAMLS)
def test_the_state_is_plain_and_loads_safely(name: str) -> None:
    file = io.BytesIO()
    torch.save(build(name).state_dict(), file)
    file.seek(0)
    build(name).load_state_dict(torch.load(file, weights_only=True))
