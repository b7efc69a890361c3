"""SAM, compared with a plain loop that moves the weights in place and back."""

import copy
import functools
from typing import Any

import pytest
import torch
from tasks import Data, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.data.loading.dataset import Batch
from fovea.objectives.sharpness_aware import ascent, sharpness_aware

BATCHES = make_batches(4)


def without_dropout() -> nn.Sequential:
    net = network()
    net[3] = nn.Identity()
    return net


def add_gradient(net: nn.Sequential, batch: Batch, rho: float, share: float) -> None:
    """Add this share of the gradient at the worst weights nearby to each parameter's `grad`."""
    parameters = list(net.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    gradients = torch.autograd.grad(F.cross_entropy(net(batch.images), batch.targets), parameters)
    norm = torch.sqrt(sum((gradient.square().sum() for gradient in gradients), torch.tensor(0.0)))
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.add_(rho * gradient / norm)
    statistics = copy.deepcopy(net[1].state_dict())  # BatchNorm's; they stay those of the first pass
    (share * F.cross_entropy(net(batch.images), batch.targets)).backward()
    with torch.no_grad():
        for name, buffer in net[1].named_buffers():
            buffer.copy_(statistics[name])
        for parameter, old in zip(parameters, before, strict=True):
            parameter.copy_(old)


def by_hand(rho: float, every: int, precision: str) -> dict[str, Tensor]:
    net = without_dropout()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for start in range(0, len(BATCHES), every):
        optimizer.zero_grad()
        for batch in BATCHES[start : start + every]:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true", cache_enabled=False):
                add_gradient(net, batch, rho, 1 / every)
        optimizer.step()
    return net.state_dict()


@pytest.mark.parametrize(("every", "precision"), [(1, "32-true"), (2, "32-true"), (1, "bf16-mixed")])
def test_a_training_equals_a_plain_loop(every: int, precision: Any) -> None:
    objective = functools.partial(sharpness_aware, rho=0.5)
    task = make_task(network=without_dropout(), objective=lambda loss: functools.partial(objective, loss=loss))
    trainer = make_trainer(max_epochs=1, accumulate_grad_batches=every, precision=precision)
    trainer.fit(task, datamodule=Data(BATCHES))
    expected, plain = by_hand(0.5, every, precision), by_hand(0.0, every, precision)
    close: Any = {"rtol": 1e-5, "atol": 1e-6} if precision == "32-true" else {"rtol": 0.05, "atol": 0.005}
    for name, tensor in expected.items():
        found = task.network.state_dict()[name]
        torch.testing.assert_close(found, tensor, **close)
        if name.endswith("weight"):
            assert (found - tensor).norm() < (found - plain[name]).norm() / 3, name


def test_the_step_has_the_length_rho_and_a_gradient_of_zeros_gives_none() -> None:
    step = ascent({"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}, rho=0.5)
    torch.testing.assert_close(step, {"a": torch.tensor([0.3, 0.0]), "b": torch.tensor([[0.4]])})
    assert ascent({"a": torch.zeros(2)}, rho=0.5)["a"].tolist() == [0, 0]


def test_frozen_and_unused_parameters_are_left_alone() -> None:
    net: Any = without_dropout()
    net[0].weight.requires_grad_(False)
    net.unused = nn.Parameter(torch.ones(2))
    net.forward = lambda images: nn.Sequential(*list(net)[:6])(images)
    loss, _ = sharpness_aware(net, BATCHES[0].images, BATCHES[0].targets, nn.CrossEntropyLoss(), rho=0.1)
    loss.backward()
    assert net[0].weight.grad is None
    assert net.unused.grad is None
    assert net[5].weight.grad is not None
