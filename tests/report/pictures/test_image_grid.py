"""Every image is in its place, and labels have room."""

import numpy as np
import pytest
import torch

from fovea.report.pictures.drawing import ascii_text, class_labels, font, width, wrapped
from fovea.report.pictures.image_grid import SIDE, draw, place


@pytest.mark.parametrize("count", [1, 4, 6])
def test_each_image_is_in_its_place_with_its_label_below(count: int) -> None:
    images = torch.randint(256, (count, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    picture = draw(images, ["a label"] * count)
    for n in range(count):
        x, y = place(n)
        times = SIDE // 16
        shown = picture[y : y + SIDE : times, x : x + SIDE : times]  # one pixel of each enlarged one
        np.testing.assert_array_equal(shown, images[n].permute(1, 2, 0))
        assert picture[y + SIDE : y + SIDE + 20, x : x + SIDE].min() < 100  # black text


def test_long_labels_are_broken_and_shortened() -> None:
    of = font(13)
    lines = wrapped("person, dining table, chair, " * 9, of, 150, 2)
    assert len(lines) == 2
    assert lines[1].endswith("...")
    assert max(width(line, of) for line in lines) <= 150
    assert wrapped("dog 0.70, cat 0.30", of, 150, 2) == ["dog 0.70, cat 0.30"]
    assert wrapped("", of, 150, 2) == []


def test_names_that_the_font_lacks_are_told_apart_by_their_number() -> None:
    assert ascii_text("école ½\n") == "ecole 1?2?"
    assert class_labels(["école", "猫", "犬", "what?"]) == ["ecole", "1 ?", "2 ?", "what?"]
