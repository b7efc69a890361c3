from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from fovea.models.se_resnet import SEResNet

RESNEXT: dict[str, Any] = {"cardinality": 32, "base_width": 4}


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def randomise(network: nn.Module) -> None:
    """Give BatchNorm random scales and shifts and a batch's statistics, so that no block is the identity."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 64, 64) + 0.5)


def assert_same_logits(reference: nn.Module, network: nn.Module) -> None:
    randomise(reference)
    network.load_state_dict(reference.state_dict(), assign=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, logits = reference.eval()(images), network.eval()(images)
    assert (expected[0] - expected[1]).abs().max() > 0.1  # the images matter
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


# The authors' Caffe models for 50, 101, 152 and 50 32x4d have the same counts (timm's legacy_seresnet*); 18, 34 and
# the wider ResNeXts are timm's seresnet*; 152 32x4d is counted with timm's ResNet class.
@pytest.mark.parametrize(
    ("depth", "options", "expected"),
    [
        (18, {}, 11_779_624),
        (34, {}, 21_960_416),
        (50, {}, 28_088_024),
        (50, RESNEXT, 27_559_896),
        *(
            pytest.param(depth, options, expected, marks=pytest.mark.slow)
            for depth, options, expected in [
                (101, {}, 49_326_872),
                (152, {}, 66_821_848),
                (101, RESNEXT, 48_955_416),
                (101, {"cardinality": 64, "base_width": 4}, 88_232_984),
                (152, RESNEXT, 66_580_440),
            ]
        ),
    ],
)
def test_the_parameter_count_is_the_published_one(depth: int, options: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        assert parameters(SEResNet(1000, depth, **options)) == expected


@pytest.mark.parametrize(
    ("name", "depth", "options"),
    [
        ("seresnet18", 18, {}),
        pytest.param("seresnet50", 50, {}, marks=pytest.mark.slow),
        ("seresnext50_32x4d", 50, RESNEXT),
        pytest.param("seresnet34", 34, {}, marks=pytest.mark.slow),
        pytest.param("seresnet101", 101, {}, marks=pytest.mark.slow),
        pytest.param("seresnet152", 152, {}, marks=pytest.mark.slow),
        pytest.param("seresnext101_32x4d", 101, RESNEXT, marks=pytest.mark.slow),
        pytest.param("seresnext101_64x4d", 101, {"cardinality": 64, "base_width": 4}, marks=pytest.mark.slow),
    ],
)
def test_with_equal_weights_the_logits_are_timms(name: str, depth: int, options: dict[str, Any]) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    with torch.device("meta"):  # no initialisation, the weights are timm's
        network = SEResNet(10, depth, **options)
    assert_same_logits(timm.create_model(name, num_classes=10), network)


@pytest.mark.slow
def test_se_resnext152_is_timms_class_with_these_settings() -> None:
    resnet = pytest.importorskip("timm.models.resnet")
    torch.manual_seed(0)
    reference = resnet.ResNet(resnet.Bottleneck, (3, 8, 36, 3), 10, **RESNEXT, block_args={"attn_layer": "se"})
    assert_same_logits(reference, SEResNet(10, 152, **RESNEXT))


@pytest.mark.parametrize(("stem", "first", "last"), [("standard", 8, 1), ("small", 32, 4)])
def test_a_small_stem_keeps_the_image_size_until_the_second_stage(stem: str, first: int, last: int) -> None:
    network = SEResNet(10, stem=stem, width=8)
    sizes: list[torch.Size] = []

    def record_size(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.shape)

    network.layer1.register_forward_hook(record_size)
    network.layer4.register_forward_hook(record_size)
    network(torch.randn(2, 3, 32, 32))
    assert sizes == [(2, 8, first, first), (2, 64, last, last)]


@pytest.mark.parametrize("size", [(17, 17), (32, 50), (96, 64)])
def test_any_image_size_gives_logits(size: tuple[int, int]) -> None:
    assert SEResNet(5, width=8)(torch.randn(2, 3, *size)).shape == (2, 5)


@pytest.mark.parametrize("depth", [18, 50])
def test_a_new_block_without_projection_is_the_identity(depth: int) -> None:
    block = SEResNet(5, depth, width=8).layer1[1]
    x = torch.rand(2, 8 if depth == 18 else 32, 6, 6)  # positive, so that the last ReLU changes nothing
    assert torch.equal(block(x), x)


def test_width_doubles_from_stage_to_stage() -> None:
    with torch.device("meta"):
        network = SEResNet(5, 50, width=16)
    assert [network.conv1.out_channels, network.fc.in_features] == [16, 16 * 8 * 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 20}, "depth=20: .*18, 34, 50, 101, 152"),
        ({"stem": "tiny"}, "stem=tiny: .*standard or small"),
        ({"depth": 34, "cardinality": 32, "base_width": 4}, "cardinality=32 base_width=4: .*50, 101 or 152"),
        ({"depth": 50, "cardinality": 0}, "cardinality=0 .*1 or more"),
        ({"depth": 50, "cardinality": 32, "base_width": 4, "width": 8}, "width=8: .*64 or more"),
    ],
)
def test_the_error_for_a_wrong_setting_lists_the_allowed_ones(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SEResNet(5, **options)


@pytest.mark.parametrize(("name", "depth", "options"), [("resnet18", 18, {}), ("resnext50_32x4d", 50, RESNEXT)])
def test_without_squeeze_and_excitation_it_is_torchvisions_resnet(
    name: str, depth: int, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    reference = torchvision.models.get_model(name, num_classes=10)
    assert_same_logits(reference, SEResNet(10, depth, squeeze_excite=False, **options))
