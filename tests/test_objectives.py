"""Every objective works with what a training has besides, and no objective has code for it."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conf_groups import GROUPS, composed
from lightning import Callback
from tasks import Data, half, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from fovea.callbacks.finite_loss import finite_loss
from fovea.objectives.teacher import Teacher
from fovea.parts import objective_parts
from fovea.training.batch_loss import Loss, Objective

NAMES = GROUPS["objective"]


def made(name: str, loss: Loss, monkeypatch: pytest.MonkeyPatch) -> Objective:
    """The objective of a yaml, with a teacher of random weights where it has one."""
    cfg = composed("data=digits", f"objective={name}")
    if "teacher" in cfg.objective:
        cfg.objective.teacher = "any"
    monkeypatch.setattr(objective_parts, "teacher", lambda cfg, place: Teacher(network()))
    return objective_parts.objective(cfg, loss)


class States(Callback):
    """The network's tensors after each batch."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.states.append(copy.deepcopy(pl_module.network.state_dict()))


@pytest.mark.parametrize("name", NAMES)
def test_its_loss_is_a_scalar_that_reaches_every_parameter_and_its_logits_are_rows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch,), net = make_batches(1), network()
    loss, logits = made(name, nn.CrossEntropyLoss(), monkeypatch)(net, batch.images, batch.targets)
    assert (loss.ndim, logits.shape) == (0, (5, 3))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_with_a_bad_loss_changes_nothing_and_the_next_one_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, seen = make_batches(3), States()
    batches[1] = batches[1]._replace(images=batches[1].images * torch.nan)
    task = make_task(objective=functools.partial(made, name, monkeypatch=monkeypatch))
    make_trainer(finite_loss("skip", str(tmp_path)), seen, max_epochs=1).fit(task, datamodule=Data(batches))
    first, second, third = seen.states
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not any(torch.equal(second[key], third[key]) for key in second)


def trained(objective: Callable[[Loss], Objective], precision: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the figures after three steps."""
    own: dict[str, Any] = {"plugins": [half()]} if precision == "16-mixed" else {"precision": precision}
    task, trainer = make_task(objective=objective), make_trainer(max_epochs=1, **own)
    trainer.fit(task, datamodule=Data(make_batches(3), make_batches(2, seed=9)))
    return dict(task.network.named_parameters()), trainer.callback_metrics


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", NAMES)
def test_in_half_precision_it_takes_about_the_same_steps(
    name: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = functools.partial(made, name, monkeypatch=monkeypatch)
    (exact, figures), (half_exact, half_figures) = (trained(objective, one) for one in ("32-true", precision))
    before, after, rounded = (
        parameters_to_vector(p.values()) for p in (dict(network().named_parameters()), exact, half_exact)
    )
    assert not torch.equal(rounded, after)
    assert (rounded - after).norm() < 0.15 * (after - before).norm()
    torch.testing.assert_close(half_figures["train/loss"], figures["train/loss"], rtol=0.02, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_plain_loss_is_validated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, val = make_task(objective=functools.partial(made, name, monkeypatch=monkeypatch)), make_batches(2, seed=9)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(task, datamodule=Data(make_batches(3), val))
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(task.network.eval()(one.images), one.targets) for one in val]
    torch.testing.assert_close(trainer.callback_metrics["val/loss"], torch.stack(losses).mean())
