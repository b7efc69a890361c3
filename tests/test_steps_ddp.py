"""A training on two ranks, compared with a plain loop in which a step has the mean of both ranks' gradients."""

import copy
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import pytest
import torch
from conf_groups import GROUPS
from lightning import Callback
from tasks import Data, K, make_batches, make_task, make_trainer, network
from timm.utils.agc import adaptive_clip_grad
from torch import Tensor, nn
from torch.nn import functional as F
from two_ranks import on_two_ranks, two_devices

from fovea.callbacks.agc import AdaptiveGradientClipping
from fovea.callbacks.unfreeze import Unfreeze
from fovea.data.loading.dataset import Batch
from fovea.losses.cross_entropy import CrossEntropy
from fovea.models.freeze import freeze
from fovea.objectives.consistency import RDrop
from fovea.objectives.distillation import hard_distillation, soft_distillation
from fovea.objectives.sharpness_aware import sharpness_aware
from fovea.objectives.supervised import supervised
from fovea.objectives.teacher import Teacher
from fovea.training.batch_loss import Loss, Objective
from fovea.training.step_seed import seed_step

STEPS, RHO, CLIP = 5, 0.5, 0.1
LARGEST = 0.01  # of a gradient that is clipped by value
WEIGHTS = [0.2, 1.0, 3.0]
TAUGHT: dict[str, Any] = {"teacher": Teacher(network()), "task": "multiclass", "alpha": 0.5}
OBJECTIVES: dict[str, Callable[[Loss], Objective]] = {
    "supervised": lambda loss: functools.partial(supervised, loss=loss),
    "distillation": lambda loss: functools.partial(soft_distillation, loss=loss, temperature=2.0, **TAUGHT),
    "hard_distillation": lambda loss: functools.partial(hard_distillation, loss=loss, **TAUGHT),
    "r_drop": lambda loss: RDrop(loss, "multiclass", weight=0.5),
    "sam": lambda loss: functools.partial(sharpness_aware, loss=loss, rho=RHO),
}


class Case(NamedTuple):
    """A training."""

    objective: str = "supervised"
    every: int = 1  # batches of a step
    loss: nn.Module = nn.CrossEntropyLoss()
    frozen: bool = False  # all but the last layer, by Unfreeze
    limit: Literal["norm", "value", "agc"] | None = None  # of the gradient


CASES = {
    **{name: Case(name) for name in OBJECTIVES},
    **{f"{name}, accumulated": Case(name, every=3) for name in OBJECTIVES},
    "class weights": Case(loss=CrossEntropy(WEIGHTS, class_names=list("abc"))),
    "sum": Case(loss=nn.CrossEntropyLoss(reduction="sum")),
    "frozen": Case(frozen=True),
    "sam, frozen": Case("sam", frozen=True),
    "clipped": Case(every=3, limit="norm"),
    "clipped by value": Case(every=3, limit="value"),
    "agc": Case(every=3, limit="agc"),
}


def net_of(case: Case) -> nn.Sequential:
    """R-Drop needs dropout, which a plain loop can repeat with it alone."""
    net = network()
    if case.objective != "r_drop":
        net[3] = nn.Identity()
    return net


def batches_of(rank: int) -> list[Batch]:
    """Every second image of each batch; of seven images four and three."""
    whole = make_batches(STEPS, size=7)
    return [Batch._make([*(part[rank::2] for part in one[:3]), one.unreadable]) for one in whole]


class Trained(NamedTuple):
    """The network's tensors after a training, and the figures of its epoch."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    figures: dict[str, float]


def trained(case: Case, rank: int) -> Trained:
    net = net_of(case)
    task = make_task(network=net, loss=case.loss, objective=OBJECTIVES[case.objective])
    callbacks: list[Callback] = [Unfreeze([("backbone", 2)])] if case.frozen else []
    callbacks += [AdaptiveGradientClipping(CLIP)] if case.limit == "agc" else []
    options: dict[str, Any] = {
        "gradient_clip_val": {"norm": CLIP, "value": LARGEST}.get(case.limit or ""),
        "gradient_clip_algorithm": case.limit if case.limit in ("norm", "value") else None,
        "accumulate_grad_batches": case.every,
    }
    trainer = make_trainer(*callbacks, max_epochs=1, **options, **two_devices())
    trainer.fit(task, datamodule=Data(batches_of(rank)))
    figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
    parameters = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    return Trained(parameters, {name: buffer.clone() for name, buffer in net.named_buffers()}, figures)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    def work(rank: int) -> dict[str, Any]:
        return {name: trained(case, rank)._asdict() for name, case in CASES.items()}

    return on_two_ranks(work, tmp_path_factory.mktemp("ranks"))


class Step(NamedTuple):
    """The gradients of the parameters that are trained, the batch's mean loss, and its weight in the epoch's mean."""

    gradients: list[Tensor]
    loss: float
    weight: float


def by_hand(case: Case) -> tuple[nn.Sequential, float]:
    """The network of rank 0 after the training, and the mean loss of the training."""
    nets = [net_of(case) for _ in range(2)]
    if case.frozen:
        for net in nets:
            freeze(net, "backbone")
    trainable, steps = [p for p in nets[0].parameters() if p.requires_grad], list[Step]()
    optimizer = torch.optim.SGD(trainable, lr=0.1, momentum=0.9, weight_decay=1e-3)
    for first in range(0, STEPS, case.every):
        window = range(first, min(first + case.every, STEPS))
        now = [step_of(case, nets[rank], rank, number) for number in window for rank in range(2)]
        for parameter, of_batches in zip(trainable, zip(*(step.gradients for step in now), strict=True), strict=True):
            parameter.grad = torch.stack(of_batches).mean(0)
        if case.limit == "norm":
            assert nn.utils.clip_grad_norm_(trainable, CLIP) > CLIP
        elif case.limit == "value":
            for parameter in trainable:
                assert parameter.grad is not None
                parameter.grad = parameter.grad.clip(-LARGEST, LARGEST)
        elif case.limit == "agc":
            adaptive_clip_grad(nets[0][:5].parameters(), CLIP)
        optimizer.step()
        for other, parameter in zip(nets[1].parameters(), nets[0].parameters(), strict=True):
            other.data.copy_(parameter.data)
        steps += now
    return nets[0], sum(step.loss * step.weight for step in steps) / sum(step.weight for step in steps)


def step_of(case: Case, net: nn.Sequential, rank: int, number: int) -> Step:
    images, target = batches_of(rank)[number][:2]
    if case.objective == "sam":
        return worst_nearby(net, images, target)
    parameters, weight, images_of = [p for p in net.parameters() if p.requires_grad], torch.ones(K), len(target)
    if case.objective == "r_drop":
        seed_step(0, number, rank, torch.device("cpu"))
        images, target = torch.cat([images, images]), target.repeat(2)
    if isinstance(case.loss, CrossEntropy):
        weight = torch.tensor(WEIGHTS)
    logits = net(images)
    loss, taught = F.cross_entropy(logits, target, weight), network().eval()(images).detach()
    if case.objective == "r_drop":
        p, q = logits.softmax(1).chunk(2)
        loss = loss + 0.5 * ((p - q) * (p.log() - q.log())).sum(1).mean() / 2
    if case.objective == "distillation":
        distance = F.kl_div((logits / 2).log_softmax(1), (taught / 2).softmax(1), reduction="batchmean")
        loss = 0.5 * loss + 0.5 * 4 * distance
    if case.objective == "hard_distillation":
        loss = 0.5 * loss + 0.5 * F.cross_entropy(logits, taught.argmax(1))
    minimized = loss * images_of if case.loss.reduction == "sum" else loss
    gradients = torch.autograd.grad(minimized, parameters)
    return Step(list(gradients), loss.item(), weight[target].sum().item())


def worst_nearby(net: nn.Sequential, images: Tensor, target: Tensor) -> Step:
    """The gradient at the weights moved by RHO along their gradient; BatchNorm's statistics are those of the first."""

    def gradients(at: nn.Sequential) -> Step:
        loss = F.cross_entropy(at(images), target)
        found = torch.autograd.grad(loss, [p for p in at.parameters() if p.requires_grad])
        return Step(list(found), loss.item(), len(target))

    moved, found = copy.deepcopy(net), gradients(net).gradients
    norm = torch.cat([one.flatten() for one in found]).norm()
    with torch.no_grad():
        for parameter, one in zip((p for p in moved.parameters() if p.requires_grad), found, strict=True):
            parameter.add_(RHO * one / norm)
    return gradients(moved)


def test_every_objective_is_a_case() -> None:
    assert OBJECTIVES.keys() == {*GROUPS["objective"]}


@pytest.mark.parametrize("name", CASES)
def test_a_training_equals_a_plain_loop_and_ranks_agree(name: str, ranks: Any) -> None:
    first, second = (Trained(**rank[name]) for rank in ranks)
    assert first.figures == second.figures
    net, loss = by_hand(CASES[name])
    assert first.figures["train/loss"] == pytest.approx(loss, rel=1e-4)
    before = dict(network().named_parameters())
    for key, parameter in net.named_parameters():
        assert torch.equal(first.parameters[key], second.parameters[key]), key
        torch.testing.assert_close(first.parameters[key], parameter.detach())
        assert torch.equal(parameter, before[key]) == (CASES[name].frozen and not key.startswith("5.")), key
    for key, buffer in net.named_buffers():
        torch.testing.assert_close(first.buffers[key], buffer)
