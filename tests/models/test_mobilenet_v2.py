import pytest
import torch
import torchvision
from torch import Tensor, nn

from fovea.models.mobilenet_v2 import MobileNetV2


# 1.0 is torchvision's published figure; the others are those of timm's mobilenetv2_050 and mobilenetv2_140.
@pytest.mark.parametrize(("width", "expected"), [(0.5, 1_968_680), (1.0, 3_504_872), (1.4, 6_108_776)])
def test_the_parameter_count_is_the_published_one(width: float, expected: int) -> None:
    with torch.device("meta"):
        network = MobileNetV2(1000, width_mult=width)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("width", [0.35, 1.0])
def test_with_equal_weights_the_logits_are_torchvisions(width: float) -> None:
    torch.manual_seed(0)
    reference = torchvision.models.mobilenet_v2(num_classes=10, width_mult=width)
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1.0
    nn.init.normal_(reference.classifier[1].weight, std=0.1)
    with torch.no_grad():
        reference(torch.randn(4, 3, 64, 64) + 0.5)  # the running statistics become this batch's
    network = MobileNetV2(10, width_mult=width)
    network.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, logits = reference.eval()(images), network.eval()(images)
    assert (expected[0] - expected[1]).abs().max() > 0.1  # the images matter
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("stem", "size"), [("standard", 1), ("small", 4)])
def test_a_small_stem_divides_the_image_by_8_and_not_by_32(stem: str, size: int) -> None:
    network = MobileNetV2(10, stem, width_mult=0.35)
    shapes: list[torch.Size] = []

    def record_shape(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes.append(output.shape)

    network.features.register_forward_hook(record_shape)
    logits = network(torch.randn(2, 3, 32, 32))
    assert shapes == [(2, 1280, size, size)]
    assert logits.shape == (2, 10)


def test_dropout_is_active_in_training_only() -> None:
    network, images = MobileNetV2(10, width_mult=0.35, dropout=0.9).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(network(images), network(images))
    network.classifier.train()
    assert not torch.equal(network(images), network(images))


def test_the_error_for_a_wrong_stem_lists_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match=r"stem=tiny.*standard or small"):
        MobileNetV2(10, "tiny")
