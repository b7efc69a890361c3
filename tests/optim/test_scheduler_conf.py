"""Each yaml of conf/scheduler, by epoch and by step: the learning rates of whole runs, compared with closed forms."""

import io
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from conf_groups import GROUPS, scheduled
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.optim import SGD, AdamW, Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from fovea.config.run_length import fill_in
from fovea.optim.schedulers import one_cycle

RATES = (0.8, 0.08)  # of two parameter groups


class Run(NamedTuple):
    batches: int  # per epoch, before trainer.limit_train_batches
    limits: list[str]
    epochs: int
    steps: int
    steps_of_epoch: int


LIMITED = ["trainer.max_epochs=20", "trainer.limit_train_batches=7", "trainer.accumulate_grad_batches=2"]
RUNS = {
    "accumulation and a limit": Run(9, LIMITED, 20, 80, 4),
    "steps": Run(5, ["trainer.max_epochs=-1", "trainer.max_steps=33"], 7, 33, 5),
    "fewer steps than the epochs have": Run(4, ["trainer.max_epochs=90", "trainer.max_steps=26"], 7, 26, 4),
    "one epoch": Run(3, ["trainer.max_epochs=1"], 1, 3, 3),
}


def sgd() -> SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in RATES]
    return SGD(groups, lr=RATES[0], momentum=0.9)


def build(name: str, *overrides: str, batches: int = 6, optimizer: Optimizer | None = None) -> LRScheduler:
    cfg = scheduled(name, *overrides)
    fill_in(cfg, [batches])
    options = OmegaConf.to_container(cfg.scheduler, resolve=True)
    assert isinstance(options, dict)
    assert options.pop("interval") in ("epoch", "step")
    return instantiate(options, _convert_="all")(optimizer or sgd())


def rates(scheduler: LRScheduler, n: int) -> Iterator[list[float]]:
    """Yield the groups' learning rates for each epoch or step of a run."""
    for _ in range(n):
        yield [group["lr"] for group in scheduler.optimizer.param_groups]
        scheduler.optimizer.step()
        _ = scheduler.step(0.5) if isinstance(scheduler, ReduceLROnPlateau) else scheduler.step()


def cosine(x: float) -> float:
    return (1 + math.cos(math.pi * x)) / 2


def restarts(s: int, n: int) -> float:
    cycle = math.ceil(n / 7)
    while s >= cycle:
        s, cycle = s - cycle, 2 * cycle
    return cosine(s / cycle)


def triangle(s: int, n: int) -> float:
    up = math.ceil(n / 10)
    s %= 2 * up
    return s / up if s < up else 2 - s / up


def warmup(s: int, n: int) -> float:
    return min(1.0, 0.1 + 0.9 * s / math.ceil(n / 20))


def after_warmup(s: int, n: int) -> float:
    first = math.ceil(n / 20)
    return warmup(s, n) if s < first else 0.1 ** ((s - first) // math.ceil(n / 3))


def warmup_cosine(s: int, n: int) -> float:
    w = round(0.05 * n)
    return (s + 1) / (w + 1) if s < w else cosine((s - w) / (n - w))


def warmup_stable_decay(s: int, n: int) -> float:
    w, d = round(0.05 * n), round(0.2 * n)
    return (s + 1) / (w + 1) if s < w else 1.0 if s < n - d else 1 - math.sqrt((s - (n - d)) / d)


OURS: dict[str, Callable[[int, int, int], float]] = {  # (s, run length, epoch length), all in the schedule's unit
    "step": lambda s, n, e: 0.1 ** (s // math.ceil(n / 3)),
    "multistep": lambda s, n, e: 0.1 ** sum(s >= math.ceil(a * n / 9) for a in (3, 6, 8)),
    "constant": lambda s, n, e: 1.0,
    "linear": lambda s, n, e: 1 - s / n,
    "exponential": lambda s, n, e: 0.95 ** (s / e),
    "cosine": lambda s, n, e: cosine(s / n),
    "cosine_restarts": lambda s, n, e: restarts(s, n),
    "polynomial": lambda s, n, e: (1 - s / n) ** 2,
    "cyclic": lambda s, n, e: triangle(s, n),
    "swalr": lambda s, n, e: 0.1 + 0.9 * cosine(min(1, s / math.ceil(n / 4))),
    "warmup_cosine": lambda s, n, e: warmup_cosine(s, n),
    "warmup_stable_decay": lambda s, n, e: warmup_stable_decay(s, n),
    "sequential": lambda s, n, e: after_warmup(s, n),
    "chained": lambda s, n, e: warmup(s, n) * 0.95 ** (s / e),
    "inverse_square_root": lambda s, n, e: min((s + 1) / (5 * e), math.sqrt(5 * e / (s + 1))),
}


def test_each_of_torchs_schedules_has_a_yaml() -> None:
    theirs = {name for name, kind in vars(lr_scheduler).items() if isinstance(kind, type) and name[0].isupper()}
    theirs = {name for name in theirs if issubclass(vars(lr_scheduler)[name], LRScheduler)} - {"LRScheduler"}
    ours = {type(build(name)).__name__ for name in GROUPS["scheduler"]}
    assert theirs - ours == {"MultiplicativeLR"}  # scheduler=exponential and LambdaLR cover it


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_constant_may_begin_with_a_fraction_of_the_rate_for_five_epochs(interval: str) -> None:
    scheduler = build("constant", "scheduler.factor=0.1", f"scheduler.interval={interval}", batches=2)
    n = 5 if interval == "epoch" else 10
    assert list(rates(scheduler, n + 2)) == [pytest.approx([0.08, 0.008])] * n + [pytest.approx([0.8, 0.08])] * 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("name", OURS)
def test_the_learning_rates_of_a_run_follow_the_formula_for_each_group(name: str, run: Run, interval: str) -> None:
    n, e = (run.epochs, 1) if interval == "epoch" else (run.steps, run.steps_of_epoch)
    scheduler = build(name, f"scheduler.interval={interval}", *run.limits, batches=run.batches)
    for s, values in enumerate(rates(scheduler, n)):
        assert values == pytest.approx([rate * OURS[name](s, n, e) for rate in RATES], abs=1e-9), s


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("run", list(RUNS.values())[:-1], ids=list(RUNS)[:-1])
def test_one_cycle_equals_torchs_with_each_groups_rate_as_its_peak(run: Run, interval: str) -> None:
    n = run.epochs if interval == "epoch" else run.steps
    values = list(rates(build("one_cycle", f"scheduler.interval={interval}", *run.limits, batches=run.batches), n))
    alone = [OneCycleLR(SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9), r, n) for r in RATES]
    expected = [[of_one[0] for of_one in of_both] for of_both in zip(*(rates(a, n) for a in alone), strict=True)]
    assert values == [pytest.approx(of_both) for of_both in expected]


@pytest.mark.parametrize(("kind", "of_group"), [(SGD, lambda g: g["momentum"]), (AdamW, lambda g: g["betas"][0])])
def test_one_cycle_changes_the_momentum_as_torchs_does(kind: Any, of_group: Callable[[dict[str, Any]], float]) -> None:
    options = {"lr": 0.1} | ({"momentum": 0.9} if kind is SGD else {})
    first, second = (kind([torch.nn.Parameter(torch.zeros(1))], **options) for _ in range(2))
    ours = build("one_cycle", "trainer.max_epochs=5", batches=4, optimizer=first)
    theirs = OneCycleLR(second, 0.1, 20)
    for _ in range(20):
        assert of_group(first.param_groups[0]) == pytest.approx(of_group(second.param_groups[0]))
        for optimizer, schedule in ((first, ours), (second, theirs)):
            optimizer.step()
            schedule.step()


def test_a_cycle_that_is_too_short_for_its_peak_causes_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    build("one_cycle", "scheduler.interval=epoch", "trainer.max_epochs=4")
    assert not caplog.text
    build("one_cycle", "scheduler.interval=epoch", "trainer.max_epochs=3")
    assert "one_cycle never reaches its peak within 3 steps or epochs" in caplog.text


def test_one_cycle_says_which_momentum_it_replaces_and_refuses_an_optimizer_with_two(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    weights = [nn.Parameter(torch.zeros(2, 2))]
    one_cycle(SGD(weights, lr=0.1, momentum=0.5), 10)
    assert "falls from 0.95 to 0.85 and rises again, instead of optimizer.momentum=0.5" in caplog.text
    one_cycle(AdamW(weights), 10, max_momentum=0.9)
    assert "falls from 0.9 to 0.85 and rises again, instead of optimizer.betas=[0.9, 0.999]" in caplog.text
    caplog.clear()
    both = SGD(weights, lr=0.1, momentum=0.5)
    both.defaults["betas"] = (0.9, 0.99)
    with pytest.raises(ValueError, match=r"betas of SGD .* type scheduler.cycle_momentum=false"):
        one_cycle(both, 10)
    one_cycle(both, 10, cycle_momentum=False)
    assert not caplog.text


def test_plateau_follows_the_monitor_in_its_direction() -> None:
    scheduler: Any = build("plateau", "scheduler.patience=1")
    values = []
    for accuracy in (0.5, 0.6, 0.6, 0.6, 0.7, 0.6):  # one epoch without improvement is tolerated
        scheduler.step(accuracy)
        values.append(scheduler.optimizer.param_groups[0]["lr"])
    assert values == pytest.approx([0.8, 0.8, 0.8, 0.08, 0.08, 0.08])


@pytest.mark.parametrize("name", GROUPS["scheduler"])
def test_the_state_of_every_schedule_loads_with_weights_only(name: str) -> None:
    file = io.BytesIO()
    torch.save(build(name).state_dict(), file)
    file.seek(0)
    build(name).load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("name", GROUPS["scheduler"])
def test_every_schedule_lasts_a_whole_run_and_makes_learning_rates(name: str, interval: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = build(name, f"scheduler.interval={interval}", "trainer.max_epochs=10")
        values = list(rates(scheduler, 10 if interval == "epoch" else 60))
    assert all(math.isfinite(rate) and 0 <= rate <= 10 * RATES[0] for of_both in values for rate in of_both)
