"""Gradients are clipped once for each optimizer step, after accumulation and unscaling."""

import functools
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from tasks import Data, make_batches, make_task, make_trainer
from timm.utils.agc import adaptive_clip_grad
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import LBFGS, SGD, AdamW

from fovea.callbacks.agc import AdaptiveGradientClipping

BATCHES = make_batches(2)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


def after_one_step(*callbacks: Any, **options: Any) -> dict[str, Tensor]:
    """The weights after a step of SGD with rate 1 from the mean loss of two batches."""
    task = make_task(network=network(), optimizer=functools.partial(SGD, lr=1.0))
    make_trainer(*callbacks, max_epochs=1, accumulate_grad_batches=2, **options).fit(task, datamodule=Data(BATCHES))
    return {name: parameter.detach() for name, parameter in task.network.named_parameters()}


def by_hand(clipping: float, excluded: tuple[str, ...] = ("3.weight", "3.bias")) -> dict[str, Tensor]:
    net = network()
    losses = [F.cross_entropy(net(batch[0]), batch[1]) for batch in BATCHES]
    torch.stack(losses).mean().backward()
    adaptive_clip_grad([p for name, p in net.named_parameters() if name not in excluded], clipping)
    return {name: (parameter - parameter.grad).detach() for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("clipping", [0.001, 100.0])
def test_the_mean_gradient_of_accumulated_batches_is_clipped_except_for_the_classifier(clipping: float) -> None:
    found = after_one_step(AdaptiveGradientClipping(clipping))
    expected = by_hand(clipping)
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_what_is_excluded_can_be_named() -> None:
    found = after_one_step(AdaptiveGradientClipping(0.001, exclude=["0.*"]))
    expected = by_hand(0.001, ("0.weight", "0.bias"))
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_the_gradients_of_a_16_mixed_training_are_unscaled_before_they_are_clipped() -> None:
    """Scaled by 1024, they would be clipped to far less."""

    def mixed() -> MixedPrecision:
        return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))

    plain = after_one_step(plugins=[mixed()])
    clipped = after_one_step(AdaptiveGradientClipping(100.0), plugins=[mixed()])
    assert all(torch.equal(plain[name], clipped[name]) for name in plain)
    assert any(not torch.equal(plain[name], parameter) for name, parameter in network().named_parameters())


@pytest.mark.parametrize(
    ("optimizer", "options", "said"),
    [
        (functools.partial(LBFGS, lr=0.1), {}, "LBFGS needs the gradients as they are"),
        (functools.partial(AdamW, fused=True), {"precision": "16-mixed"}, "set optimizer.fused=false"),
    ],
)
def test_a_step_whose_gradients_can_not_be_clipped_is_refused(optimizer: Any, options: Any, said: str) -> None:
    task = make_task(network=network(), optimizer=optimizer)
    plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))] if options else []
    trainer = make_trainer(AdaptiveGradientClipping(), max_epochs=1, plugins=plugins)
    with pytest.raises(ValueError, match=said):
        trainer.fit(task, datamodule=Data(BATCHES))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"exclude": ["9.*"]}, "the network has no parameter 9"), ({"clipping": 0.0}, "clipping=0.0")],
)
def test_an_unknown_name_and_a_limit_of_zero_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        after_one_step(AdaptiveGradientClipping(**options))
