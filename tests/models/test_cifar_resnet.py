import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.models.cifar_resnet import CifarResNet
from fovea.models.layer_order import layer_numbers


# In millions, He et al. 2016, table 6.
@pytest.mark.parametrize(("depth", "published"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_the_parameter_count_is_the_published_one(depth: int, published: float) -> None:
    with torch.device("meta"):
        network = CifarResNet(10, depth)
    count = sum(p.numel() for p in network.parameters()) / 1e6
    assert round(count, 1 if depth == 110 else 2) == published
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()) == depth


def test_the_logits_are_those_of_a_plain_loop_over_the_weights() -> None:
    torch.manual_seed(0)
    network = CifarResNet(7, 14, width=4).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
    state, images = network.state_dict(), torch.randn(2, 3, 32, 32)

    def conv(x: Tensor, name: str, number: int, stride: int = 1) -> Tensor:
        x = F.conv2d(x, state[f"{name}conv{number}.weight"], stride=stride, padding=1)
        keys = [f"{name}bn{number}.{key}" for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *(state[key] for key in keys))

    x = conv(images, "", 1).relu()
    for stage, channels in ((1, 4), (2, 8), (3, 16)):
        for block in range(2):
            stride = 2 if stage > 1 and block == 0 else 1
            inner = conv(x, f"layer{stage}.{block}.", 1, stride).relu()
            shortcut = torch.zeros(2, channels, 32 // 2 ** (stage - 1), 32 // 2 ** (stage - 1))
            first = (channels - x.shape[1]) // 2
            shortcut[:, first : first + x.shape[1]] = F.max_pool2d(x, 1, stride)  # takes every stride-th pixel
            x = (conv(inner, f"layer{stage}.{block}.", 2) + shortcut).relu()
    expected = x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    assert (expected[0] - expected[1]).abs().max() > 0.1  # the images matter
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


def test_layer_wise_decay_counts_the_stem_each_block_and_the_head() -> None:
    assert max(layer_numbers(CifarResNet(10, 20)).values()) == 10


def test_the_error_for_a_wrong_depth_says_which_depths_there_are() -> None:
    with pytest.raises(ValueError, match=r"model.depth=18: it must be 6 n \+ 2.*such as 20"):
        CifarResNet(10, 18)
