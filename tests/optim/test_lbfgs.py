"""A training with LBFGS, which computes the loss of a batch many times a step, compared with a plain loop."""

import functools
from typing import Any

import pytest
import torch
from conf_groups import composed
from tasks import Data, K, make_batches, make_task, make_trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import LBFGS

from fovea.data.loading.dataset import Batch
from fovea.parts import optimization_parts
from fovea.training.step_seed import seed_step

BATCHES = make_batches(3)
SEARCH: dict[str, Any] = {"lr": 0.5, "max_iter": 5, "line_search_fn": "strong_wolfe"}


def with_dropout() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, K))


def mixing(images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mix with the batch in the opposite order, by a random share."""
    share, labels = torch.rand(()), torch.eye(K)[target]
    return images.lerp(images.flip(0), share), labels.lerp(labels.flip(0), share)


def by_hand() -> tuple[nn.Sequential, list[list[tuple[float, int]]]]:
    """Return the trained network and, for each step, the loss and the number of correct images in all its calls."""
    net = with_dropout()
    steps: list[list[tuple[float, int]]] = []
    optimizer = LBFGS(net.parameters(), **SEARCH)

    def closure(number: int, batch: Batch, calls: list[tuple[float, int]]) -> Tensor:
        seed_step(0, number, 0, torch.device("cpu"))
        images, target = mixing(batch.images, batch.targets)
        logits = net(images)
        loss = F.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        calls.append((loss.item(), int((logits.argmax(1) == target.argmax(1)).sum())))
        return loss

    for number, batch in enumerate(BATCHES):
        steps.append([])
        optimizer.step(functools.partial(closure, number, batch, steps[-1]))
    return net, steps


def test_all_calls_of_a_step_draw_the_same_random_numbers_and_the_first_one_is_measured() -> None:
    task = make_task(network=with_dropout(), mixing=mixing, optimizer=functools.partial(LBFGS, **SEARCH))
    trainer = make_trainer(max_epochs=1, log_every_n_steps=1)
    trainer.fit(task, datamodule=Data(BATCHES))
    net, steps = by_hand()
    assert min(len(calls) for calls in steps) > 2
    torch.testing.assert_close(task.network.state_dict(), net.state_dict(), rtol=0, atol=0)
    losses, correct = zip(*(calls[0] for calls in steps), strict=True)
    figures = trainer.callback_metrics
    assert figures["train/loss"].item() == pytest.approx(sum(losses) / len(steps))
    assert figures["train/accuracy"].item() == pytest.approx(sum(correct) / (5 * len(steps)))
    assert figures["train/loss_step"].item() == pytest.approx(losses[-1])


def test_accumulated_batches_are_refused_before_the_training() -> None:
    cfg = composed("optimizer=lbfgs", "trainer.accumulate_grad_batches=2")
    with pytest.raises(ValueError, match=r"batches=2: LBFGS (?s:.*)Set trainer.accumulate_grad_batches=1"):
        optimization_parts.optimization(cfg, with_dropout())
