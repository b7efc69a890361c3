"""A run's length equals Lightning's, and schedules use it in their own unit."""

import math
from contextlib import nullcontext
from typing import Any

import pytest
from conf_groups import GROUPS, composed, scheduled
from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import OmegaConf
from tasks import Batches, Data, make_batches, make_task, make_trainer

from fovea.config import run_length
from fovea.config.check import check

BATCHES = 5
RUNS: list[dict[str, Any]] = [
    {"max_epochs": 3},
    {"max_epochs": 3, "accumulate_grad_batches": 2},
    {"max_epochs": 2, "limit_train_batches": 3, "accumulate_grad_batches": 2},
    {"max_epochs": 2, "limit_train_batches": 9},
    {"max_epochs": 2, "limit_train_batches": 0.5},
    {"max_epochs": 2, "limit_train_batches": 1},
    {"max_epochs": 2, "limit_train_batches": 1.0},
    {"max_epochs": 2, "limit_train_batches": 2, "overfit_batches": 3},
    {"max_epochs": 2, "overfit_batches": 0.4},
    {"max_epochs": 10, "max_steps": 7},
    {"max_epochs": 1, "max_steps": 7},
    {"max_epochs": None, "max_steps": 7, "accumulate_grad_batches": 2},
    {"max_epochs": -1, "max_steps": 10},
    {"max_epochs": 3, "max_time": "01:00:00:00"},
    {"max_epochs": 10, "fast_dev_run": True},
    {"max_epochs": 10, "fast_dev_run": 2},
]


class Rates(Callback):
    """The learning rate of every optimizer step, and in how many epochs these were."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.epochs: set[int] = set()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.epochs.add(trainer.current_epoch)


class Whole(Data):
    def train_dataloader(self) -> Any:
        return Batches(self.train)


@pytest.mark.parametrize(("run", "interval"), [(r, ("epoch", "step")[n % 2]) for n, r in enumerate(RUNS)], ids=str)
def test_a_trainings_rates_are_a_cosine_over_the_epochs_or_steps_that_lightning_makes(
    run: dict[str, Any], interval: str
) -> None:
    cfg = scheduled("cosine")
    cfg.trainer.update(run)
    cfg.scheduler.interval = interval
    length = run_length.fill_in(cfg, [BATCHES])
    options = OmegaConf.to_container(cfg.scheduler, resolve=True)
    assert isinstance(options, dict)
    del options["interval"]
    rates, task = Rates(), make_task(schedule=instantiate(options), interval=interval)
    make_trainer(rates, **run).fit(task, datamodule=Whole(make_batches(BATCHES)))
    assert (length.epochs, length.steps) == (len(rates.epochs), len(rates.rates))
    n = length.steps if interval == "step" else length.epochs
    done = [s if interval == "step" else length.epoch_of(s) for s in range(length.steps)]
    assert rates.rates == pytest.approx([0.1 * (1 + math.cos(math.pi * d / n)) / 2 for d in done])


def test_a_run_without_limits_has_lightnings_thousand_epochs() -> None:
    cfg = composed("trainer.max_epochs=null")
    assert run_length.run_length(cfg, [BATCHES])[:2] == (1000, 5000)


ENDLESS = [
    ["trainer.max_epochs=-1"],
    ["trainer.max_epochs=-1", "trainer.max_time='00:01:00:00'"],
    ["trainer.max_epochs=null", "trainer.max_time='00:01:00:00'"],
    ["trainer.max_epochs=null", "+callbacks.timer={_target_: lightning.pytorch.callbacks.Timer}"],
]


@pytest.mark.parametrize("endless", ENDLESS, ids=" ".join)
def test_a_schedule_that_needs_an_end_is_refused_where_the_run_has_none(endless: list[str]) -> None:
    cfg = composed("scheduler=cosine", *endless)
    assert run_length.limits(cfg) == (None, None)
    with pytest.raises(ValueError, match=r"\(CosineAnnealingLR\): scheduler\.T_max follows .* no end") as caught:
        run_length.check_schedule(cfg)
    assert "trainer.max_epochs= or trainer.max_steps=" in str(caught.value)
    assert "scheduler=constant|exponential|inverse_square_root|" in str(caught.value)
    limited, typed = cfg.copy(), cfg.copy()
    limited.trainer.max_steps = typed.scheduler.T_max = 9
    run_length.check_schedule(limited)
    run_length.check_schedule(typed)


@pytest.mark.parametrize("name", GROUPS["scheduler"])
def test_every_schedule_is_refused_without_an_end_or_is_built_without_one(name: str) -> None:
    cfg = scheduled(name)
    cfg.trainer.max_epochs = -1
    run_length.fill_in(cfg, [BATCHES])
    if name in run_length.without_end():
        run_length.check_schedule(cfg)
        assert None not in OmegaConf.to_container(cfg.scheduler, resolve=True).values()  # type: ignore[union-attr]
    else:
        with pytest.raises(ValueError, match="the run has no end"):
            run_length.check_schedule(cfg)


@pytest.mark.parametrize(
    ("interval", "key", "said"),
    [
        ("step", "trainer.max_epochs", r"trainer\.max_epochs\} is a number of epochs, but scheduler\.interval=step"),
        ("epoch", "total_steps", r"total_steps\} is a number of steps, but scheduler\.interval=epoch"),
        ("step", "trainer.max_steps", r"trainer\.max_steps is not set for this run"),
    ],
)
def test_a_reference_to_a_key_of_another_unit_is_refused(interval: str, key: str, said: str) -> None:
    cfg = scheduled("cosine")
    cfg.scheduler.update(interval=interval, T_max=f"${{{key}}}")
    with pytest.raises(ValueError, match=f"scheduler.T_max=.*{said}") as caught:
        run_length.check_schedule(cfg)
    assert "${schedule_length}" in str(caught.value)


def test_a_schedule_of_ones_own_may_refer_to_the_trainer_in_its_unit() -> None:
    cfg = scheduled("cosine")
    cfg.scheduler.T_max = "${trainer.max_epochs}"
    run_length.check_schedule(cfg)


def test_a_plateau_schedule_by_step_refuses_a_monitor_of_the_whole_epoch() -> None:
    cfg = composed("scheduler=plateau", "monitor=train/loss")
    check(cfg, "train")
    cfg.scheduler.interval = "step"
    with pytest.raises(ValueError, match=r"monitor=train/loss is known at an epoch's end.*scheduler\.interval=epoch"):
        check(cfg, "train")


def test_the_steps_of_epochs_that_differ_are_those_of_a_plain_loop() -> None:
    batches = [9, 5, 3, 2]
    for every, max_steps, epochs in ((1, -1, 6), (2, -1, 6), (2, 11, 100), (1, 18, 100), (3, -1, 2)):
        cfg = composed(f"trainer.accumulate_grad_batches={every}", f"trainer.max_steps={max_steps}")
        cfg.trainer.max_epochs = epochs
        epoch_of = [e for e in range(epochs) for n in range(batches[min(e, 3)]) if n % every == 0]
        epoch_of = epoch_of[: max_steps if max_steps > 0 else None]
        found = run_length.fill_in(cfg, batches)
        assert (found.epochs, found.steps) == (epoch_of[-1] + 1, len(epoch_of))
        assert [found.epoch_of(step) for step in range(len(epoch_of))] == epoch_of
        for e in range(epoch_of[-1]):
            assert found.steps_of(e) == sum(epoch < e for epoch in epoch_of)
            assert found.steps_of(e + 0.5) == (found.steps_of(e) + found.steps_of(e + 1)) / 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["scheduler=inverse_square_root"],
            r"scheduler\.lr_lambda\.warmup_steps=.* counts epochs in steps.*batch_size=4",
        ),
        (
            ["scheduler=exponential", "scheduler.interval=step"],
            r"type scheduler\.gamma=<number>, or scheduler\.interval",
        ),
        (["callbacks=[default,swa]"], r"callbacks\.swa\.every_n_steps=null stands for an epoch"),
        (["scheduler=exponential"], None),
        (["callbacks=[default,swa]", "callbacks.swa.every_n_steps=9"], None),
    ],
)
def test_an_epoch_counted_in_steps_is_refused_where_epochs_differ(words: list[str], said: str | None) -> None:
    run_length.check_schedule(composed(*words))
    growing = composed(*words, "data.progressive.batch_size=4", "data.progressive.epochs=2")
    with pytest.raises(ValueError, match=said) if said else nullcontext():
        run_length.check_schedule(growing)


def test_a_trainer_without_a_step_has_a_length_that_schedules_can_be_built_with() -> None:
    assert run_length.run_length(composed("trainer.max_epochs=0"), [BATCHES])[:2] == (1, 1)


@pytest.mark.parametrize(
    ("expression", "value"),
    [("times:1/3,90", 30), ("times:1/3,10", 4), ("times:0.05,10", 1), ("times:0.1,70", 7), ("times:5,7", 35)],
)
def test_a_share_of_a_length_is_exact_and_rounded_up(expression: str, value: int) -> None:
    composed()  # registers the resolvers
    assert OmegaConf.create({"share": f"${{{expression}}}"}).share == value


WARMUPS = [  # overrides, batches of an epoch -> the warm-up's and the schedule's length
    (["warmup=linear"], 5, (1, 11)),
    (["warmup=constant", "warmup.share=0.25"], 5, (3, 9)),
    (["warmup=linear", "scheduler.interval=step"], 5, (3, 57)),
    (["warmup=linear", "warmup.epochs=0.5", "scheduler.interval=step"], 5, (3, 57)),
    (["warmup=linear", "warmup.epochs=5"], 5, (5, 7)),
    (["warmup=linear", "warmup.epochs=2", "trainer.max_epochs=-1", "scheduler=exponential"], 5, (2, None)),
    (["warmup=none"], 5, (0, 12)),
    (["warmup=linear", "trainer.fast_dev_run=true"], 5, (0, 1)),
]


@pytest.mark.parametrize(("words", "batches", "expected"), WARMUPS, ids=str)
def test_the_warmup_and_the_schedule_fill_the_run(words: list[str], batches: int, expected: tuple[Any, Any]) -> None:
    cfg = composed("scheduler=cosine", *words)
    run_length.check_schedule(cfg)
    run_length.fill_in(cfg, [batches])
    assert (cfg.warmup_length, cfg.schedule_length) == expected
    if cfg.warmup_length:
        assert cfg.warmup.length == cfg.warmup_length


@pytest.mark.parametrize("words", [["warmup.epochs=12"], ["warmup.share=0.05", "trainer.max_epochs=1"]], ids=str)
def test_a_warmup_that_leaves_nothing_for_the_schedule_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"warmup\.\w+=\S+: the warm-up has \d+ epochs, but the run has \d+"):
        run_length.fill_in(composed("scheduler=cosine", "warmup=linear", *words), [BATCHES])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scheduler=warmup_cosine"], r"has a warm-up of its own, scheduler\.warmup=0\.05"),
        (["scheduler=exponential", "trainer.max_epochs=-1"], r"type warmup\.epochs=<number>"),
        (["scheduler=plateau", "scheduler.interval=step"], r"type scheduler\.interval=epoch"),
        (["scheduler=plateau", "trainer.check_val_every_n_epoch=2"], r"trainer\.check_val_every_n_epoch=1"),
    ],
)
def test_a_warmup_that_a_schedule_can_not_have_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_length.check_schedule(composed("warmup=linear", *words))
    run_length.check_schedule(composed("warmup=none", *[w for w in words if "max_epochs" not in w]))
