"""The numbers of layers rise along the forward pass, and are timm's for the same network."""

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from fovea.models.layer_order import layer_numbers
from fovea.models.mobilenet_v2 import MobileNetV2
from fovea.models.se_resnet import SEResNet

COUNTS = {  # torchvision's network -> its layers, stem and head included
    "resnet18": 10,
    "resnet50": 18,
    "convnext_tiny": 23,
    "vit_b_16": 14,
    "swin_t": 17,
    "efficientnet_b0": 19,
    "mobilenet_v3_small": 15,
    "densenet121": 63,
    "shufflenet_v2_x1_0": 19,
    "vgg11_bn": 11,
}


def torchvisions(name: str) -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None)


def order_of_use(network: nn.Module, size: int) -> list[int]:
    """The layer of each module that has parameters of its own, in the order in which the forward pass uses them."""
    numbers, used = layer_numbers(network), list[int]()
    for prefix, module in network.named_modules():
        own = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
        if own and not any(True for _ in module.children()):
            module.register_forward_hook(lambda *_, number=numbers[own[0]]: used.append(number))
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    return used


@pytest.mark.parametrize("name", COUNTS)
def test_each_layer_is_used_after_the_ones_with_lower_numbers(name: str) -> None:
    network = torchvisions(name)
    numbers = layer_numbers(network)
    assert numbers.keys() == dict(network.named_parameters()).keys()
    assert set(numbers.values()) == set(range(COUNTS[name]))
    used = order_of_use(network, 224)
    assert used == sorted(used)
    assert used[0] == 0


@pytest.mark.parametrize(("build", "count"), [(SEResNet, 10), (MobileNetV2, 20)])
def test_our_networks_have_a_stem_their_blocks_and_a_head(build: Any, count: int) -> None:
    network = build(7)
    used = order_of_use(network, 64)
    assert used == sorted(used)
    assert set(used) == set(range(count))


def test_a_resnets_numbers_equal_timms() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("resnet18")
    assert layer_numbers(theirs) == layer_numbers(torchvisions("resnet18"))


def test_a_transformers_embeddings_are_its_stem_and_each_block_is_a_layer() -> None:
    numbers = layer_numbers(torchvisions("vit_b_16"))
    stem = ("class_token", "conv_proj.weight", "conv_proj.bias", "encoder.pos_embedding")
    assert {name for name, number in numbers.items() if number == 0} == set(stem)
    for name, number in numbers.items():
        if name.startswith("encoder.layers.encoder_layer_"):
            assert number == 1 + int(name.split(".")[2].removeprefix("encoder_layer_"))
    assert numbers["heads.head.weight"] == 13


def test_a_network_around_another_one_is_opened_where_its_blocks_are() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = torchvisions("resnet18")
            self.head = nn.Linear(1000, 3)

    numbers = layer_numbers(Wrapped())
    inner = layer_numbers(torchvisions("resnet18"))
    assert all(numbers[f"backbone.{name}"] == number for name, number in inner.items())
    assert numbers["head.weight"] == max(inner.values()) + 1


def test_single_layers_are_numbered_with_the_normalisation_after_them() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    numbers = layer_numbers(network)
    assert numbers == {"0.weight": 0, "0.bias": 0, "1.weight": 0, "1.bias": 0, "4.weight": 1, "4.bias": 1}
