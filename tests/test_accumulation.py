"""Accumulated gradients against a plain loop: each step follows the mean loss of the batches that it has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from tasks import Data, make_batches, make_task, make_trainer
from torch import Tensor, nn
from torch.nn import functional as F

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
