"""A checkpointed network has the gradients and statistics of the same network without checkpoints, bit for bit."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL
from tasks import Data, make_batches, make_task, make_trainer
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import models

from fovea.callbacks.ema import EMA
from fovea.models.mobilenet_v2 import MobileNetV2
from fovea.models.se_resnet import SEResNet
from fovea.objectives.sharpness_aware import sharpness_aware
from fovea.speed.gradient_checkpointing import blocks_of, checkpoint_blocks
from fovea.training.save_last import SaveLast

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Dropped(nn.Sequential):
    """A block with dropout, which must drop the same in both passes."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)
        )


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Dropped(3), Dropped(8), Dropped(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def stepped(network: nn.Module, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
    """(gradients, state dict) after a training step without an optimizer."""
    torch.manual_seed(1)
    network(images).square().sum().backward()
    return [p.grad for p in network.parameters() if p.grad is not None], network.state_dict()


@pytest.mark.parametrize(
    ("make", "size"),
    [(lambda: Wrapped(small()), 16), (lambda: SEResNet(3, width=8), 32), (lambda: MobileNetV2(3, width_mult=0.25), 16)],
    ids=["dropout", "se_resnet", "mobilenet_v2"],
)
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_and_statistics_are_bit_for_bit_those_without_checkpoints(
    make: Any, size: int, autocast: bool
) -> None:
    plain = make()
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed)
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        (grads, state), (ours, own_state) = stepped(plain, images), stepped(checkpointed, images)
    assert all(torch.equal(a, b) for a, b in zip(grads, ours, strict=True))
    assert list(own_state) == list(state)
    assert all(torch.equal(own_state[name], tensor) for name, tensor in state.items())
    counters = [tensor.item() for name, tensor in own_state.items() if name.endswith("num_batches_tracked")]
    assert set(counters) == {1}  # torch.utils.checkpoint alone would count the recomputation too


def test_the_recomputation_uses_the_weights_that_an_objective_put_in_the_place_of_the_networks() -> None:
    plain = SEResNet(3, width=8)
    checkpointed, target = copy.deepcopy(plain), torch.tensor([0, 1, 2, 0])
    checkpoint_blocks(checkpointed)
    for network in (plain, checkpointed):
        sharpness_aware(network, IMAGES, target, F.cross_entropy, rho=0.5)[0].backward()
    for ours, theirs in zip(checkpointed.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert all(torch.equal(a, b) for a, b in zip(checkpointed.buffers(), plain.buffers(), strict=True))


class Wrapped(nn.Module):
    """Its blocks are the children of a container."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layers(images)
        return output


class Kept(TorchDispatchMode):
    """Counts the bytes of tensors that were made within it and are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return output

    def bytes(self) -> int:
        return sum(size for reference, size in self.made.values() if not reference.expired())


def kept_after_forward(network: nn.Module) -> int:
    with Kept() as kept:
        output = network(IMAGES)
        size = kept.bytes()
    del output
    return size


def test_only_the_inputs_of_the_blocks_are_kept() -> None:
    network = SEResNet(3, width=8, stem="small")
    before = kept_after_forward(network)
    assert len(checkpoint_blocks(network)) == 8
    assert kept_after_forward(network) < 0.3 * before  # the rest is of the stem and the head


def test_evaluation_copies_and_classes_are_as_before() -> None:
    plain = SEResNet(3, width=8).eval()
    network = copy.deepcopy(plain)
    kinds = [type(module) for module in network.modules()]
    checkpoint_blocks(network)
    assert all(isinstance(module, kind) for module, kind in zip(network.modules(), kinds, strict=True))
    assert str(network) == str(plain)
    with torch.inference_mode():
        assert torch.equal(network(IMAGES), plain(IMAGES))
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert not copied(IMAGES).any()  # a copy runs with its own weights
    assert network(IMAGES).any()


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet18", 8),
        ("resnet50", 16),
        ("vit_b_16", 12),
        ("mobilenet_v2", 17 + 2),  # and the stem and the last convolution, with their norms
        ("mobilenet_v3_large", 15 + 2),
        ("efficientnet_b0", 16 + 2),
        ("convnext_tiny", 18 + 4),  # and the stem and three downsamplings
        ("swin_t", 12 + 4),
    ],
)
def test_the_blocks_are_those_of_the_papers(name: str, blocks: int) -> None:
    with torch.device("meta"):
        assert len(dict(blocks_of(getattr(models, name)(weights=None)))) == blocks


def test_a_network_without_blocks_is_an_error() -> None:
    with pytest.raises(ValueError, match="gradient_checkpointing=true: Sequential has no blocks"):
        checkpoint_blocks(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)))


def test_a_training_with_averaged_weights_ends_with_the_same_weights(tmp_path: Path) -> None:
    states = []
    for place in ("plain", "checkpointed"):
        network = Wrapped(small())
        if place == "checkpointed":
            checkpoint_blocks(network)
        callbacks = (EMA(decay=0.5), SaveLast(str(tmp_path / place)))
        trainer = make_trainer(*callbacks, max_epochs=1, accumulate_grad_batches=2, enable_checkpointing=True)
        trainer.fit(make_task(network=network), datamodule=Data(make_batches(4), make_batches(1)))
        content = torch.load(tmp_path / place / "last.ckpt", weights_only=True)
        states.append(content["state_dict"] | {f"ema {k}": v for k, v in content["state_dict_ema"].items()})
    plain, checkpointed = states
    assert list(checkpointed) == list(plain)
    assert all(torch.equal(checkpointed[name], tensor) for name, tensor in plain.items())


@pytest.mark.slow
def test_a_run_with_checkpoints_equals_one_without(
    invoke: Callable[..., tuple[int, str, str]], runs: Callable[[], list[Path]], folder: Path
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "callbacks=[default,ema]", "objective=sam")
    for words in ((), ("gradient_checkpointing=true",)):
        code, _, err = invoke("train", *data, *words)
        assert code == 0, err
    plain, checkpointed = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs())
    for part in ("state_dict", "state_dict_ema"):
        assert list(checkpointed[part]) == list(plain[part])
        assert all(torch.equal(checkpointed[part][name], tensor) for name, tensor in plain[part].items())
    assert invoke("evaluate", f"run={runs()[1]}")[0] == 0
