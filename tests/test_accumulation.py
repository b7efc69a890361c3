"""Accumulated gradients against a plain loop: each step follows the mean loss of the batches that it has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from tasks import Data, make_batches, make_task, make_trainer
from tasks import network as with_dropout
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.callbacks.early_stopping import EarlyStopping
from fovea.training.save_last import SaveLast
from fovea.training.stop_signals import Stopped

BATCHES = make_batches(7)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


def by_hand(every: int, batches: int, epochs: int) -> Tensor:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(epochs):
        for start in range(0, batches, every):
            window = BATCHES[start : min(start + every, batches)]
            optimizer.zero_grad()
            torch.stack([F.cross_entropy(net(one.images), one.targets) for one in window]).mean().backward()
            optimizer.step()
    return net[1].weight.detach()


@pytest.mark.parametrize(
    ("every", "limit"), [(1, None), (3, None), (4, None), (7, None), (10, None), (3, 5), (2, 6), (4, 0.86)]
)
def test_the_last_step_of_an_epoch_is_the_mean_over_the_batches_that_it_has(
    every: int, limit: int | float | None
) -> None:
    task = make_task(network=network())
    epochs = 2 if limit is None else 1  # `Data` would go on after the limit
    trainer = make_trainer(max_epochs=epochs, accumulate_grad_batches=every, limit_train_batches=limit)
    trainer.fit(task, datamodule=Data(BATCHES))
    batches = int(trainer.num_training_batches)
    assert trainer.global_step == epochs * -(-batches // every)
    torch.testing.assert_close(task.network[1].weight.detach(), by_hand(every, batches, epochs))


def test_the_logged_losses_are_the_batches_own() -> None:
    task = make_task(network=network())
    # one step: all losses are of the same weights
    trainer = make_trainer(accumulate_grad_batches=10, max_epochs=1, log_every_n_steps=1)
    trainer.fit(task, datamodule=Data(BATCHES))
    losses = [F.cross_entropy(network()(one.images), one.targets).item() for one in BATCHES]
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(sum(losses) / len(losses))
    assert trainer.callback_metrics["train/loss_step"].item() == pytest.approx(losses[-1])


class StopWithin(Callback):
    """Asks for a stop while the second epoch is under way."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 1:
            saver = next(callback for callback in trainer.callbacks if isinstance(callback, SaveLast))
            saver.signals.number = 15


def test_an_epoch_that_is_resumed_within_ends_with_the_same_step(tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 2, "accumulate_grad_batches": 3, "enable_checkpointing": True}
    stopped = make_trainer(SaveLast(str(tmp_path)), StopWithin(), **options)
    with pytest.raises(Stopped):
        stopped.fit(make_task(network=network()), datamodule=Data(BATCHES))
    task, trainer = make_task(network=network()), make_trainer(SaveLast(str(tmp_path)), **options)
    trainer.fit(task, datamodule=Data(BATCHES), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert trainer.global_step == 6
    torch.testing.assert_close(task.network[1].weight.detach(), by_hand(3, 7, epochs=2))


class StopAfter(Callback):
    """Sets trainer.should_stop after a batch (epoch, batch), as trainer.max_time does."""

    def __init__(self, place: tuple[int, int]) -> None:
        self.place = place

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) >= self.place:
            trainer.should_stop = True


class Validations(Callback):
    """Records after how many batches each validation is made, and its loss."""

    def __init__(self) -> None:
        self.made: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        self.made.append((batches, trainer.callback_metrics["val/loss"].item()))

    @property
    def places(self) -> list[int]:
        return [batches for batches, _ in self.made]


def accumulate_three(folder: Path, *callbacks: Callback, **options: Any) -> tuple[dict[str, Tensor], Trainer]:
    """Train on seven batches an epoch; a training goes on if `folder` has a checkpoint."""
    task, last = make_task(network=with_dropout()), folder / "last.ckpt"
    options = {"max_epochs": 2, "accumulate_grad_batches": 3, "enable_checkpointing": True} | options
    trainer = make_trainer(*callbacks, SaveLast(str(folder)), **options)
    checkpoint = last if last.exists() else None
    trainer.fit(task, datamodule=Data(BATCHES, BATCHES[:2]), ckpt_path=checkpoint, weights_only=True)
    return task.network.state_dict(), trainer


def batches_of(folder: Path) -> int:
    """Return the number of batches that last.ckpt has been trained on."""
    loops = torch.load(folder / "last.ckpt", weights_only=True)["loops"]["fit_loop"]
    return loops["epoch_loop.batch_progress"]["total"]["processed"]


@pytest.mark.parametrize("interval", [None, 2])
@pytest.mark.parametrize(("batch", "saved"), [(0, 10), (1, 10), (2, 10), (3, 13), (5, 13), (6, 14)])
def test_a_stop_within_a_step_waits_for_its_end_and_the_resumed_run_equals_an_uninterrupted_one(
    batch: int, saved: int, interval: int | None, tmp_path: Path
) -> None:
    whole, _ = accumulate_three(tmp_path / "whole", val_check_interval=interval)
    _, stopped = accumulate_three(tmp_path / "stopped", StopAfter((1, batch)), val_check_interval=interval)
    assert stopped.global_step == {10: 4, 13: 5, 14: 6}[saved]
    assert batches_of(tmp_path / "stopped") == saved
    resumed, trainer = accumulate_three(tmp_path / "stopped", val_check_interval=interval)
    assert trainer.global_step == 6
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


def test_a_stop_within_a_step_is_validated_once_when_the_step_is_complete(tmp_path: Path) -> None:
    validations = Validations()
    accumulate_three(tmp_path, validations, StopAfter((0, 1)), val_check_interval=2)
    assert validations.places == [2, 3]


@pytest.mark.parametrize(("interval", "stopped_at", "places"), [(4, 13, [4, 11]), (2, 6, [2, 4, 6])])
def test_early_stopping_within_a_step_adds_no_validation_and_with_more_patience_the_run_goes_on_exactly(
    interval: int, stopped_at: int, places: list[int], tmp_path: Path
) -> None:
    def train(folder: str, patience: int) -> tuple[dict[str, Tensor], Validations]:
        validations = Validations()
        stopping = EarlyStopping("val/loss", patience=patience, min_delta=100.0, check_finite=False)
        weights, _ = accumulate_three(tmp_path / folder, stopping, validations, val_check_interval=interval)
        return weights, validations

    whole, all_made = train("whole", patience=100)
    _, before = train("stopped", patience=1)
    assert (batches_of(tmp_path / "stopped"), before.places) == (stopped_at, places)
    resumed, after = train("stopped", patience=100)
    assert before.made + after.made == all_made.made
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "steps"), [({"min_steps": 4}, 4), ({"min_epochs": 1}, 3), ({"min_steps": 4, "min_epochs": 2}, 6)]
)
def test_a_stop_that_is_put_off_comes_after_the_least_steps_and_epochs(
    options: dict[str, int], steps: int, tmp_path: Path
) -> None:
    class StopOnce(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.should_stop or trainer.fit_loop.epoch_loop.total_batch_idx == 1

    _, trainer = accumulate_three(tmp_path, StopOnce(), max_epochs=4, **options)
    assert trainer.global_step == steps
