"""R-Drop, compared with a plain loop that draws the same dropout."""

import pytest
import torch
from tasks import Data, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional as F

from fovea.objectives.consistency import RDrop, symmetric_divergence
from fovea.training.step_seed import seed_step

FIRST, SECOND = (torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))


def test_the_symmetric_divergence_is_the_mean_of_both_directions() -> None:
    p, q = Categorical(logits=FIRST), Categorical(logits=SECOND)
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean() / 2
    torch.testing.assert_close(symmetric_divergence(FIRST, SECOND, "multiclass"), expected)
    labels = Bernoulli(logits=FIRST), Bernoulli(logits=SECOND)
    expected = (kl_divergence(*labels) + kl_divergence(*labels[::-1])).mean() / 2
    torch.testing.assert_close(symmetric_divergence(FIRST, SECOND, "multilabel"), expected)


def by_hand(weight: float) -> dict[str, Tensor]:
    """Three steps of SGD on every image twice."""
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for step, batch in enumerate(make_batches(3)):
        seed_step(0, step, 0, torch.device("cpu"))
        both = net(torch.cat([batch.images, batch.images]))
        p, q = both[:5].softmax(1), both[5:].softmax(1)
        apart = ((p - q) * (p.log() - q.log())).sum(1).mean() / 2
        optimizer.zero_grad()
        (F.cross_entropy(both, torch.cat([batch.targets, batch.targets])) + weight * apart).backward()
        optimizer.step()
    return net.state_dict()


def test_a_training_equals_a_plain_loop() -> None:
    task = make_task(objective=lambda loss: RDrop(loss, "multiclass", weight=0.8))
    make_trainer(max_epochs=1).fit(task, datamodule=Data(make_batches(3)))
    for name, tensor in by_hand(0.8).items():
        torch.testing.assert_close(task.network.state_dict()[name], tensor)


def test_a_network_without_dropout_is_refused() -> None:
    objective = RDrop(nn.CrossEntropyLoss(), "multiclass", weight=1.0)
    with pytest.raises(ValueError, match="so the network has no dropout to compare"):
        objective(nn.Linear(4, 4), FIRST, torch.arange(6) % 4)


def test_dropout_of_a_branch_that_starts_with_zeros_is_seen() -> None:
    """As in timm's residual networks with stochastic depth, whose last BatchNorm of a block starts with the scale 0."""

    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + F.dropout(0 * x)

    objective = RDrop(nn.CrossEntropyLoss(), "multiclass", weight=1.0)
    loss, _ = objective(Block(), FIRST, torch.arange(6) % 4)
    torch.testing.assert_close(loss, F.cross_entropy(FIRST, torch.arange(6) % 4))


def test_dropout_with_a_generator_of_its_own_is_seen() -> None:
    generator = torch.Generator().manual_seed(0)

    class Dropped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (torch.rand(x.shape, generator=generator) < 0.5)

    _, first = RDrop(nn.CrossEntropyLoss(), "multiclass", weight=1.0)(Dropped(), FIRST, torch.arange(6) % 4)
    assert (first == 0).any()
