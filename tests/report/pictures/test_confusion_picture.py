"""The cells of the picture, by plain loops."""

import math

import numpy as np
import pytest

from fovea.report.pictures import confusion_picture
from fovea.report.pictures.confusion_picture import LEAST, MARGIN, cell_side, draw, short_count
from fovea.report.pictures.drawing import BLUE, RED

Colour = tuple[int, ...]


def counts(classes: int, images: int) -> np.ndarray:
    """Return a matrix whose last class has no image."""
    rng = np.random.default_rng(0)
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, tuple(rng.integers(0, classes - 1, (2, images))), 1)
    return matrix + np.diag([5] * (classes - 1) + [0])


def strength(matrix: np.ndarray, i: int, j: int) -> float:
    if matrix[i, j] == 0:
        return 0.0
    return LEAST + (1 - LEAST) * math.sqrt(int(matrix[i, j]) / sum(matrix[i].tolist()))


def colour(value: float, full: Colour) -> Colour:
    return tuple(round(255 - value * (255 - channel)) for channel in full)


def cells(matrix: np.ndarray, names: list[str], group: int = 1) -> np.ndarray:
    """Return the picture's matrix, without names and margins."""
    side = cell_side(len(matrix)) * len(matrix)
    return draw(matrix, names, group)[-MARGIN - side : -MARGIN, -MARGIN - side : -MARGIN]


@pytest.mark.parametrize("classes", [2, 10, 30, 31, 100, 150])
def test_each_cell_has_the_colour_of_its_share_of_the_row(classes: int) -> None:
    matrix, side = counts(classes, 5 * classes), cell_side(classes)
    shown = cells(matrix, [f"class {k}" for k in range(classes)])
    for i in range(classes):
        for j in range(classes):
            expected = colour(strength(matrix, i, j), BLUE if i == j else RED)
            corner = shown[i * side + 1, j * side + 1]  # the count is in the middle
            assert tuple(corner.tolist()) == expected, (i, j)


def test_counts_are_written_where_there_are_images_and_few_classes() -> None:
    matrix, side = np.array([[0, 1], [0, 12345]]), cell_side(2)
    shown = cells(matrix, ["a", "b"])
    assert len(np.unique(shown[:side, :side].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(shown[:side, side:].reshape(-1, 3), axis=0)) > 1
    assert [short_count(n) for n in (1, 9999, 12_345, 999_999, 1_250_000)] == ["1", "9999", "12k", "999k", "1.2M"]


def test_mistakes_among_very_many_classes_are_dots_of_three_pixels_beside_the_diagonal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(confusion_picture, "SIDE", 120)
    classes = 120
    matrix = counts(classes, 300)
    shown = cells(matrix, [str(k) for k in range(classes)])
    for i in range(classes):
        for j in range(classes):
            near = [
                (a, b) for a in (i - 1, i, i + 1) for b in (j - 1, j, j + 1) if 0 <= a < classes and 0 <= b < classes
            ]
            dot = max(strength(matrix, a, b) for a, b in near if a != b)
            expected = colour(strength(matrix, i, i), BLUE) if i == j else colour(dot, RED)
            assert tuple(shown[i, j].tolist()) == expected, (i, j)


@pytest.mark.parametrize(("classes", "group"), [(3, 1), (1000, 1), (2001, 3)])
def test_the_picture_is_not_much_larger_than_a_screen(classes: int, group: int) -> None:
    rows = -(-classes // group)
    picture = draw(np.eye(rows, dtype=np.int64), ["a very long name " * 20] * classes, group)
    assert picture.dtype == np.uint8
    assert max(picture.shape) < 1500


def test_a_matrix_without_images_is_drawn() -> None:
    assert cells(np.zeros((3, 3), np.int64), ["", "a", "b"]).min() == 255
