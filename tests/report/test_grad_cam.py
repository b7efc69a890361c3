"""Heat maps by Grad-CAM, against the formula."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer, resnet18

from fovea.report import grad_cam
from fovea.report.grad_cam import heat_maps, map_layer, overlay

pytest.importorskip("torchcam")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(5 * 36, 3)).eval()


def test_the_map_is_the_relu_of_the_channels_weighted_by_their_mean_gradients() -> None:
    model, images = network(), torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    maps = heat_maps(model, images, [2, 0])
    assert maps is not None
    activation = model[:5](images)  # (2, 5, 6, 6)
    logits = model[5:](activation)
    (gradient,) = torch.autograd.grad(logits[0, 2] + logits[1, 0], activation)
    expected = F.relu((gradient.mean((2, 3), keepdim=True) * activation).sum(1))  # (2, 6, 6)
    expected = (expected - expected.amin((1, 2), keepdim=True)) / expected.amax((1, 2), keepdim=True)
    torch.testing.assert_close(maps, expected.detach().nan_to_num(), atol=1e-4, rtol=1e-4)


def test_the_layer_is_the_last_convolution_whose_map_is_not_too_small() -> None:
    resnet = resnet18().eval()
    assert map_layer(resnet, torch.zeros(1, 3, 224, 224)) == "layer4.1.conv2"  # 7 x 7
    assert map_layer(resnet, torch.zeros(1, 3, 64, 64)) == "layer3.1.conv2"  # 4 x 4; layer4's are 2 x 2


def test_a_transformer_has_no_map_and_hooks_are_removed() -> None:
    model = VisionTransformer(32, 16, num_layers=1, num_heads=2, hidden_dim=32, mlp_dim=32).eval()
    assert heat_maps(model, torch.zeros(1, 3, 32, 32), [0]) is None
    assert not any(layer._forward_hooks for layer in model.modules())


def test_the_overlay_keeps_the_images_size() -> None:
    picture = overlay(torch.zeros(3, 20, 30, dtype=torch.uint8), torch.eye(4))
    assert picture.shape == (3, 20, 30)
    assert picture.float().std() > 1
    assert grad_cam.available()
