"""A prolonged run goes on with the rates that a run of that length would have had from its start."""

from typing import Any

import pytest
import torch
from conf_groups import GROUPS, scheduled
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fovea.training.optimization import replay

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
