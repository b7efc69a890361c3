"""A prolonged run goes on with the rates that a run of that length would have had from its start."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from conf_groups import GROUPS, scheduled
from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import OmegaConf
from tasks import Data, make_batches, make_task, make_trainer
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from fovea.optim.warmup import with_warmup
from fovea.training.optimization import replay
from fovea.training.save_last import SaveLast

BEFORE, SHORT, LONG = 9, 10, 24


def build(name: str, length: int) -> Any:
    cfg = scheduled(name)
    cfg.schedule_length = length
    options = OmegaConf.to_container(cfg.scheduler, resolve=True)
    assert isinstance(options, dict)
    del options["interval"]
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.5, 0.1)]
    return instantiate(options, _convert_="all")(SGD(groups, lr=0.1, momentum=0.9))


def settings(scheduler: Any) -> list[dict[str, Any]]:
    """What the schedule has set in the optimizer, momentum too."""
    groups = scheduler.optimizer.param_groups
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


def go(scheduler: Any, steps: int) -> list[Any]:
    seen = []
    for _ in range(steps):
        scheduler.optimizer.step()
        scheduler.step()
        seen.append(settings(scheduler))
    return seen


@pytest.mark.parametrize("name", GROUPS["scheduler"])
def test_a_prolonged_schedule_goes_on_bit_for_bit_as_one_that_was_longer_from_the_start(name: str) -> None:
    whole, begun = build(name, LONG), build(name, SHORT)
    if isinstance(whole, ReduceLROnPlateau):
        pytest.skip("it follows the monitor")
    expected = go(whole, LONG - 1)[BEFORE - 1 :]
    go(begun, BEFORE)
    resumed = build(name, LONG)
    resumed.optimizer.load_state_dict(begun.optimizer.state_dict())
    resumed.load_state_dict(begun.state_dict())
    replay(resumed.optimizer, resumed, build(name, LONG))
    assert [settings(resumed), *go(resumed, LONG - 1 - BEFORE)] == expected


def test_a_plateau_schedule_keeps_its_rate_and_what_it_has_seen_and_takes_the_new_options() -> None:
    scheduler = build("plateau", LONG)
    for loss in (0.5, 0.7, 0.4):
        scheduler.step(loss)
    scheduler.optimizer.param_groups[0]["lr"] = 0.05
    fresh = build("plateau", LONG)
    fresh.patience = 3
    replay(scheduler.optimizer, scheduler, fresh)
    assert (scheduler.best, scheduler.num_bad_epochs, scheduler.last_epoch) == (0.7, 1, 3)
    assert scheduler.patience == 3
    assert scheduler.optimizer.param_groups[0]["lr"] == 0.05


def warmed(length: int, warmup: int) -> Any:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    return with_warmup(optimizer, lambda o: CosineAnnealingLR(o, length - warmup), "linear", warmup, None)


def test_a_prolonged_warmup_and_its_schedule_go_on_as_if_they_were_longer_from_the_start() -> None:
    expected = go(warmed(LONG, 4), LONG - 1)[BEFORE - 1 :]
    begun = warmed(SHORT, 2)
    go(begun, BEFORE)
    replay(begun.optimizer, begun, warmed(LONG, 4))
    resumed = warmed(LONG, 4)
    resumed.optimizer.load_state_dict(begun.optimizer.state_dict())
    resumed.load_state_dict(begun.state_dict())
    assert [settings(resumed), *go(resumed, LONG - 1 - BEFORE)] == expected


def test_a_plateau_schedule_after_a_warmup_keeps_its_rate_too() -> None:
    def build() -> Any:
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        return with_warmup(optimizer, lambda o: ReduceLROnPlateau(o, patience=0), "linear", 1, None)

    scheduler = build()
    for loss in (0.9, 0.4, 0.5):
        scheduler.step(loss)
    replay(scheduler.optimizer, scheduler, build())
    assert (scheduler.last_epoch, scheduler.schedule.best) == (3, 0.4)
    assert scheduler.get_last_lr() == pytest.approx([0.05])


def test_a_longer_warmup_of_a_prolonged_run_does_not_begin_again_after_a_plateau_schedule_has_begun() -> None:
    def build(warmup: int) -> Any:
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        return with_warmup(optimizer, lambda o: ReduceLROnPlateau(o, patience=0), "linear", warmup, None)

    scheduler, longer = build(1), build(6)
    for loss in (0.9, 0.4, 0.5):
        scheduler.step(loss)
    longer.load_state_dict(scheduler.state_dict())
    longer.optimizer.load_state_dict(scheduler.optimizer.state_dict())
    replay(longer.optimizer, longer, build(6))
    assert not longer.warming
    assert longer.get_last_lr() == pytest.approx([0.05])
    longer.step(0.6)  # worse again
    assert longer.get_last_lr() == pytest.approx([0.005])


class Rates(Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_a_training_warms_up_before_a_plateau_schedule_that_uses_only_later_validations() -> None:
    def schedule(optimizer: Any) -> Any:
        return with_warmup(
            optimizer, lambda o: ReduceLROnPlateau(o, mode="max", threshold=9.0, patience=0), "linear", 2, None
        )

    rates = Rates()
    make_trainer(rates, max_epochs=6).fit(
        make_task(schedule=schedule), datamodule=Data(make_batches(1), make_batches(1))
    )
    # the third validation is the schedule's first and sets its best; with that threshold no later one is better
    assert rates.rates == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.01, 0.001])


def test_a_training_from_another_ones_state_uses_its_own_rate_and_weight_decay(tmp_path: Path) -> None:
    def task(rate: float, decay: float) -> Any:
        config = {"optimizer": {"lr": rate, "weight_decay": decay}}
        return make_task(optimizer=functools.partial(SGD, lr=rate, momentum=0.9, weight_decay=decay), config=config)

    second = task(0.01, 0.5)
    assert resumed_rates(tmp_path, task(0.1, 0.0), second) == [0.01, 0.01]
    (optimizer,) = [second.optimizers(use_pl_optimizer=False)]
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


def scaled(rate: float, batches: int, **options: Any) -> Any:
    """A task whose rate is scaled for steps of so many batches of 8 images."""
    config = {"lr_scaling": "linear", "data": {"batch_size": 8}, "trainer": {"accumulate_grad_batches": batches}}
    return make_task(optimizer=functools.partial(SGD, lr=rate), config=config, **options)


def resumed_rates(folder: Path, first: Any, second: Any) -> list[float]:
    """The rates of the second epoch on, which the second task trains from the first one's checkpoint."""
    data = Data(make_batches(2), make_batches(1))
    make_trainer(SaveLast(str(folder)), max_epochs=1, enable_checkpointing=True).fit(first, datamodule=data)
    rates = Rates()
    trainer = make_trainer(SaveLast(str(folder)), rates, max_epochs=3, enable_checkpointing=True)
    trainer.fit(second, datamodule=data, ckpt_path=folder / "last.ckpt", weights_only=True)
    return rates.rates


def test_rates_that_are_scaled_for_larger_steps_replace_those_of_the_checkpoint(tmp_path: Path) -> None:
    assert resumed_rates(tmp_path, scaled(0.1, 1), scaled(0.2, 2)) == [0.2, 0.2]


def test_without_larger_steps_the_rates_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    assert resumed_rates(tmp_path, scaled(0.1, 1), scaled(0.2, 1)) == [0.1, 0.1]


def test_a_plateau_schedule_warns_that_it_keeps_the_rates_of_smaller_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (scaled(*values, schedule=ReduceLROnPlateau) for values in ((0.1, 1), (0.2, 2)))
    assert resumed_rates(tmp_path, first, second) == [0.1, 0.1]
    assert "keeps the checkpoint's learning rates, for 8 images of a step instead of 16" in caplog.text
