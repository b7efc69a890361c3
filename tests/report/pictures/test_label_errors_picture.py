"""The bars of the picture have the lengths of the counts."""

import numpy as np
import torch

from fovea.report.pictures.drawing import BLUE, RED
from fovea.report.pictures.label_errors_picture import BAR, BAR_TOP, HEADER, MOST, ROW, draw
from fovea.report.statistics.per_class import Counts


def counts(missed: list[int], false: list[int]) -> Counts:
    right = torch.full((len(missed),), 7)
    return Counts(right, torch.tensor(false), torch.tensor(missed), right)


def bars(picture: np.ndarray, rows: int) -> list[tuple[int, int]]:
    """Return the red and the blue pixels of the first line of each row's bars."""
    lines = [picture[HEADER + n * ROW + BAR_TOP] for n in range(rows)]
    red, blue = ([int((line == colour).all(1).sum()) for line in lines] for colour in (RED, BLUE))
    return list(zip(red, blue, strict=True))


def test_the_bars_of_missed_and_false_labels_share_a_scale() -> None:
    missed, false = [0, 3, 40, 1], [20, 0, 10, 3000]
    shown = bars(draw(counts(missed, false), ["a", "b", "c", "d"]), 4)
    for n, pair in enumerate(zip(missed, false, strict=True)):
        for length, count in zip(shown[n], pair, strict=True):
            assert length == (0 if count == 0 else max(2, round(BAR * count / 3000)))


def test_of_many_classes_those_with_most_wrong_labels_come_first() -> None:
    missed, false = list(range(100)), [0] * 100
    picture = draw(counts(missed, false), [f"class {k}" for k in range(100)])
    assert bars(picture, MOST) == [(round(BAR * n / 99), 0) for n in range(99, 99 - MOST, -1)]
    assert len(picture) < HEADER + ROW * (MOST + 1)


def test_no_wrong_label_is_no_bar() -> None:
    assert bars(draw(counts([0, 0], [0, 0]), ["a", "b"]), 2) == [(0, 0)] * 2
