"""The warm-up before a schedule, compared with torch's own SequentialLR, LinearLR and ConstantLR."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from conf_groups import GROUPS, composed, scheduled
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, ReduceLROnPlateau, SequentialLR

from fovea import build
from fovea.config.run_length import fill_in
from fovea.optim.warmup import Warmup, warmup_factor, with_warmup

RATES = (0.8, 0.08)  # of two parameter groups
COSINE = partial(CosineAnnealingLR, T_max=6)


def sgd() -> SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in RATES]
    return SGD(groups, lr=RATES[0], momentum=0.9)


def settings(schedule: Any, steps: int, figure: tuple[float, ...] = ()) -> list[list[tuple[float, float]]]:
    """The rates and the momentum of both groups at each of the next steps."""
    values = []
    for _ in range(steps):
        values.append([(group["lr"], group["momentum"]) for group in schedule.optimizer.param_groups])
        schedule.optimizer.step()
        schedule.step(*figure)
    return values


def from_yaml(name: str, interval: str) -> Callable[[Optimizer], Any]:
    cfg = scheduled(name, f"scheduler.interval={interval}", "trainer.max_epochs=20")
    fill_in(cfg, [6])
    options: Any = OmegaConf.to_container(cfg.scheduler, resolve=True)
    del options["interval"]
    return instantiate(options, _convert_="all")


@pytest.mark.parametrize(
    ("shape", "start", "theirs"),
    [
        ("linear", 0.01, partial(LinearLR, start_factor=0.01, total_iters=4)),
        ("linear", None, partial(LinearLR, start_factor=0.2, total_iters=4)),
        ("constant", 0.1, partial(ConstantLR, factor=0.1, total_iters=4)),
    ],
)
def test_a_warmup_before_a_cosine_equals_torchs_sequence_of_both(
    shape: Any, start: float | None, theirs: Callable[[Optimizer], Any]
) -> None:
    optimizer = sgd()
    expected = settings(SequentialLR(optimizer, [theirs(optimizer), COSINE(optimizer)], [4]), 10)
    found = settings(with_warmup(sgd(), COSINE, shape, 4, start), 10)
    assert [[rate for rate, _ in both] for both in found] == [
        pytest.approx([rate for rate, _ in both]) for both in expected
    ]


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("name", GROUPS["scheduler"])
def test_after_the_warmup_every_schedule_runs_as_if_it_had_begun_there(name: str, interval: str) -> None:
    schedule, figure = from_yaml(name, interval), (0.5,) if name == "plateau" else ()
    alone = settings(schedule(sgd()), 20, figure)
    warmed = settings(with_warmup(sgd(), schedule, "linear", 3, None), 23, figure)
    assert warmed[3:] == alone
    for step, both in enumerate(warmed[:3]):
        factor = (step + 1) / 4
        assert both == [pytest.approx((rate * factor, momentum)) for rate, momentum in alone[0]]


@pytest.mark.parametrize("stop", [1, 3, 4, 7])
@pytest.mark.parametrize("name", ["cosine", "sequential", "chained", "one_cycle", "plateau"])
def test_a_resumed_warmup_goes_on_as_if_it_had_not_stopped(name: str, stop: int) -> None:
    schedule, figure = from_yaml(name, "epoch"), (0.5,) if name == "plateau" else ()
    whole = settings(with_warmup(sgd(), schedule, "linear", 4, None), 12, figure)
    begun = with_warmup(sgd(), schedule, "linear", 4, None)
    settings(begun, stop, figure)
    file = io.BytesIO()
    torch.save((begun.optimizer.state_dict(), begun.state_dict()), file)
    file.seek(0)
    of_optimizer, of_schedule = torch.load(file, weights_only=True)
    resumed = with_warmup(sgd(), schedule, "linear", 4, None)
    resumed.optimizer.load_state_dict(of_optimizer)
    resumed.load_state_dict(of_schedule)
    assert settings(resumed, 12 - stop, figure) == whole[stop:]


def test_a_warmup_of_one_step_starts_at_half_the_rate() -> None:
    assert [warmup_factor(step, 1, "linear", None) for step in range(3)] == [0.5, 1.0, 1.0]


def test_a_plateau_schedule_ignores_figures_of_the_warmup() -> None:
    schedule = with_warmup(sgd(), partial(ReduceLROnPlateau, patience=0, factor=0.1), "constant", 2, 0.5)
    assert schedule.is_plateau
    rates = []
    for figure in (0.1, 0.1, 0.5, 0.4, 0.6):  # the first two belong to the warm-up
        rates.append(schedule.get_last_lr()[0])
        schedule.step(figure)
    assert rates == pytest.approx([0.4, 0.4, 0.8, 0.8, 0.8])
    assert schedule.get_last_lr() == pytest.approx([0.08, 0.008])


def test_the_config_puts_the_warmup_before_the_schedule_and_both_fill_the_run() -> None:
    overrides = ("data=digits", "warmup=linear", "warmup.epochs=2", "scheduler=cosine", "scheduler.interval=step")
    cfg = composed(*overrides, "trainer.max_epochs=10", "optimizer.lr=1.0")
    fill_in(cfg, [5])
    assert (cfg.warmup_length, cfg.schedule_length) == (10, 40)
    schedule = build.task(cfg).configure_optimizers()["lr_scheduler"]["scheduler"]
    assert isinstance(schedule, Warmup)
    rates = []
    for _ in range(50):
        rates.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    assert rates[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert rates[30] == pytest.approx(0.5)
    assert schedule.get_last_lr()[0] == pytest.approx(0.0)
