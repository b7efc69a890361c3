"""The features of a network are what its classifier makes its logits of."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import some
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.models.features import features_and_logits
from fovea.models.from_timm import build_timm
from fovea.models.from_torchvision import build_torchvision
from fovea.models.mobilenet_v2 import MobileNetV2
from fovea.models.se_resnet import SEResNet

K = 7
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """Applies its classifier to 4 parts of the image, and has a parameter after it."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, K)
        self.last = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(images, 2).flatten(2).mT).mean(1) * self.last


class Prototypes(nn.Module):
    """Compares with prototypes, without a layer that has K outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.prototypes = nn.Parameter(torch.randn(K, 4))

    def forward(self, images: Tensor) -> Tensor:
        return -torch.cdist(self.layer(images).mean((2, 3)), self.prototypes)


SMALL: dict[str, Callable[[], nn.Module]] = {  # "network, its classifier"
    "SE-ResNet, fc": lambda: SEResNet(K, width=8),
    "MobileNetV2, classifier.1": lambda: MobileNetV2(K, width_mult=0.25),
    "torchvision's squeezenet1_1, classifier.1": lambda: build_torchvision("squeezenet1_1", K),
    "timm's mobilenetv3_small_050, classifier": lambda: build_timm("mobilenetv3_small_050", K),
    "tokens, classifier": Tokens,
}


@pytest.mark.parametrize("name", SMALL)
def test_the_features_are_the_input_of_the_classifier(name: str) -> None:
    torch.manual_seed(0)
    network = SMALL[name]().eval()
    classifier = network.get_submodule(name.partition(", ")[2])
    given: list[Tensor] = []
    hook = classifier.register_forward_hook(lambda layer, inputs, output: given.append(inputs[0]))
    with torch.inference_mode():
        features, logits = features_and_logits(network, IMAGES)
        hook.remove()
        assert torch.equal(logits, network(IMAGES))
    parts = given[0].flatten(2).mT if isinstance(classifier, nn.Conv2d) else given[0].reshape(2, -1, given[0].shape[-1])
    torch.testing.assert_close(features, parts.mean(1))


@pytest.mark.parametrize(
    ("build", "name", "classifier"),
    some(
        [
            (build_torchvision, "resnet18", "fc"),
            (build_torchvision, "densenet121", "classifier"),
            (build_torchvision, "convnext_tiny", "classifier.2"),
            (build_torchvision, "vit_b_16", "heads.head"),
            (build_torchvision, "swin_t", "head"),
            (build_torchvision, "googlenet", "fc"),
            (build_timm, "resnet50", "fc"),
            (build_timm, "vit_tiny_patch16_224", "head"),
            (build_timm, "deit_tiny_distilled_patch16_224", "head_dist"),
            (build_timm, "levit_128s", "head_dist.linear"),
            (build_timm, "convnext_atto", "head.fc"),
            (build_timm, "mobilenetv4_conv_small", "classifier"),
        ]
    ),
)
def test_the_classifier_of_larger_networks_is_found(build: Any, name: str, classifier: str) -> None:
    with torch.device("meta"):  # without memory or initialisation
        network = build(name, K, 224).eval()
        features, logits = features_and_logits(network, torch.zeros(2, 3, 224, 224))
    width = network.get_submodule(classifier).weight.shape[1]
    assert (features.shape, logits.shape) == ((2, width), (2, K))
    assert width != K


def test_a_linear_classifier_gives_the_logits_of_the_features() -> None:
    network = SEResNet(K, width=8).eval()
    with torch.inference_mode():
        features, logits = features_and_logits(network, IMAGES)
        torch.testing.assert_close(network.fc(features), logits)


def test_without_a_classifier_the_logits_are_the_features() -> None:
    for network in (Prototypes(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())):
        features, logits = features_and_logits(network, IMAGES)
        assert features is logits


def test_the_network_is_left_as_it_was_even_after_an_error() -> None:
    network = SEResNet(K, width=8)
    features_and_logits(network, IMAGES)
    with pytest.raises(RuntimeError):
        features_and_logits(network, IMAGES[:, :1])
    assert not any(layer._forward_pre_hooks for layer in network.modules())
