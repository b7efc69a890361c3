from typing import Any

import pytest
import torch
from torch import nn

from fovea.models.airbench import Airbench, Group


def test_the_parameter_count_is_that_of_airbench94() -> None:
    """24 whitening filters with a bias, six convolutions, six shifts and scales, and the head."""
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    expected = (24 * 12 + 24) + convolutions + 2 * 2 * (64 + 256 + 256) + 2560
    assert sum(p.numel() for p in Airbench(10).parameters()) == expected


def test_a_group_passes_its_input_on_before_training() -> None:
    group = Airbench(10, (16, 64, 64)).groups[1].eval()
    images = torch.rand(2, 16, 8, 8)
    once = nn.GELU()(nn.MaxPool2d(2)(images) / (1 + 1e-5) ** 0.5)
    expected = nn.GELU()(once / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(group(images)[:, :16], expected)


def test_batch_norm_scales_are_not_trained() -> None:
    frozen = [name for name, p in Airbench(10, (8, 32, 32)).named_parameters() if not p.requires_grad]
    assert frozen == [f"groups.{i}.norm{j}.weight" for i in range(3) for j in (1, 2)]


@pytest.mark.parametrize(("size", "depth"), [(9, 2), (32, 3), (48, 2)])
def test_images_of_any_size_from_9_pixels_on_have_logits(size: int, depth: int) -> None:
    assert Airbench(7, (8, 32, 32), depth)(torch.randn(2, 3, size, size)).shape == (2, 7)


def test_a_third_convolution_is_added_to_the_first() -> None:
    group = Group(24, 8, depth=3).eval()
    nn.init.zeros_(group.conv3.weight)
    images = torch.rand(2, 24, 8, 8)
    first = nn.GELU()(group.norm1(group.pool(group.conv1(images))))
    torch.testing.assert_close(group(images), nn.GELU()(first))


@pytest.mark.parametrize("options", [{"depth": 1}, {"widths": [64, 256]}])
def test_another_depth_or_number_of_widths_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"model.depth=.* must be 2 or 3, and model.widths=\[64, 256"):
        Airbench(10, **options)
