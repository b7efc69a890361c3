"""Thumbnails keep their shape, and the file gives back what was written."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from fovea.report.thumbnail_file import SIDE, read, thumbnail, write


@pytest.mark.parametrize(
    ("size", "expected"), [((300, 400), (84, SIDE)), ((16, 16), (SIDE, SIDE)), ((9, 2), (108, 24))]
)
def test_large_images_shrink_and_small_ones_grow_by_whole_numbers(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = Image.open(io.BytesIO(thumbnail(torch.zeros(3, *size, dtype=torch.uint8))))
    assert (image.height, image.width) == expected


def test_the_file_gives_back_the_images_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert read(tmp_path) == {}
    write(tmp_path, {"test/3": b"x", "heat/3": b"yy"})
    assert read(tmp_path) == {"test/3": b"x", "heat/3": b"yy"}
    (tmp_path / "thumbnails.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="thumbnails.zip is damaged"):
        read(tmp_path)
