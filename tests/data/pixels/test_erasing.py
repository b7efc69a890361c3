"""Random erasing, compared with timm's and with a plain loop."""

import random
from typing import Any

import pytest
import scipy.stats
import torch
from timm.data.random_erasing import RandomErasing as Timms
from torch import Generator, Tensor

from fovea.data.pixels.erasing import RandomErasing, draw_boxes, erase

AREA, RATIO = (0.02, 1 / 3), (0.3, 3.3)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("fill", ["pixel", "mean"])
def test_only_the_pixels_of_the_boxes_are_overwritten(fill: Any, layout: torch.memory_format) -> None:
    images = torch.full((3, 3, 40, 50), 7.0).contiguous(memory_format=layout)
    boxes = torch.tensor([[5, 6, 30, 40], [0, 0, 0, 0], [39, 0, 1, 50]])
    erased = erase(images, boxes, fill, seeded(0))
    assert torch.equal(images, torch.full_like(images, 7.0))
    inside = torch.zeros(3, 40, 50, dtype=torch.bool)
    for b, (top, left, height, width) in enumerate(boxes.tolist()):
        for y in range(top, top + height):
            for x in range(left, left + width):
                inside[b, y, x] = True
    assert torch.equal(erased != 7, inside[:, None].expand(-1, 3, -1, -1))
    noise = erased[0, :, 5:35, 6:46].flatten()
    if fill == "mean":
        assert not noise.any()
    else:
        assert scipy.stats.kstest(noise.numpy(), "norm").pvalue > 0.001


def test_the_boxes_are_distributed_as_timms() -> None:
    def measured(erased: Tensor) -> list[list[int]]:
        rows, columns = erased.any(1), erased.any(0)
        return [[int(rows.sum()), int(columns.sum()), int(rows.int().argmax()), int(columns.int().argmax())]]

    random.seed(0)
    theirs = Timms(0.6, *AREA, *RATIO, mode="const", device="cpu")(torch.ones(2000, 1, 24, 30))
    ours = erase(torch.ones(2000, 1, 24, 30), draw_boxes(2000, (24, 30), 0.6, AREA, RATIO, seeded(1)), "mean")
    found = [torch.tensor([measured(i[0] == 0) for i in images if not i.all()])[:, 0] for images in (ours, theirs)]
    assert scipy.stats.chi2_contingency([[len(f), 2000 - len(f)] for f in found]).pvalue > 0.001
    for column in range(4):
        assert scipy.stats.ks_2samp(found[0][:, column], found[1][:, column]).pvalue > 0.001


def test_a_box_that_never_fits_erases_nothing() -> None:
    assert not draw_boxes(50, (4, 400), 1.0, (1.0, 1.0), (1.0, 1.0)).any()


def test_the_adapter_erases_images_of_a_batch_and_keeps_labels() -> None:
    torch.manual_seed(0)
    target = torch.arange(400)
    images, same = RandomErasing(0.25)(torch.full((400, 3, 16, 16), 7.0), target)
    assert same is target
    assert (images != 7).flatten(1).any(1).float().mean().item() == pytest.approx(0.25, abs=0.07)


def test_numbers_out_of_range_are_refused() -> None:
    wrong: list[dict[str, Any]] = [{"probability": 2.0}, {"area": (0.5, 0.1)}, {"ratio": (0.0, 1.0)}, {"fill": "x"}]
    for options in wrong:
        with pytest.raises(ValueError, match=next(iter(options))):
            RandomErasing(**options)
