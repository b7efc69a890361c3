"""The classifier of cosines, compared with torch's cosine similarity, in networks of this package and of timm."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from fovea.models.airbench import Airbench
from fovea.models.cosine import CosineLinear, use_cosine_classifier
from fovea.models.features import features_and_logits
from fovea.models.mobilenet_v2 import MobileNetV2
from fovea.models.weights.head import classifier_names


def small_timm() -> nn.Module:
    return timm.create_model("resnet10t", num_classes=5)


def own() -> nn.Module:
    return MobileNetV2(num_classes=5, width_mult=0.25)


def scaled() -> nn.Module:
    return Airbench(5, widths=(8, 16, 16))


@pytest.mark.parametrize("make", [small_timm, own, scaled])
def test_logits_are_scaled_cosines_of_features_and_rows_of_the_weight(make: Callable[[], nn.Module]) -> None:
    network = make().eval()
    weight = dict(network.named_parameters())[next(n for n in classifier_names(network) if n.endswith("weight"))]
    use_cosine_classifier(network, 30.0)
    with torch.no_grad():
        features, logits = features_and_logits(network, torch.randn(3, 3, 32, 32))
    expected = 30 * F.cosine_similarity(features[:, None], weight[None], dim=2)
    torch.testing.assert_close(logits, expected.detach(), atol=1e-4, rtol=1e-4)
    assert [name.rpartition(".")[2] for name in classifier_names(network)] == ["weight"]


def test_logits_do_not_depend_on_the_length_of_features_or_weights() -> None:
    layer, features = CosineLinear(8, 3, 30.0), torch.randn(5, 8)
    before = layer(features)
    with torch.no_grad():
        layer.weight *= 7
    torch.testing.assert_close(layer(100 * features), before)
    assert before.abs().max() <= 30


def test_a_network_whose_classifier_is_no_linear_layer_is_refused() -> None:
    for network in (nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten()), nn.Linear(4, 5)):
        with pytest.raises(ValueError, match="cosine_scale=30 replaces a classifier that is one linear layer"):
            use_cosine_classifier(network, 30)
