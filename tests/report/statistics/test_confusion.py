"""Confusions, against scikit-learn and plain loops."""

from itertools import product

import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearns

from fovea.report.prediction_file import Predictions
from fovea.report.statistics import confusion
from fovea.report.statistics.confusion import Confused, confusion_matrix, error_pairs, most_confused


def single_label() -> Predictions:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (90,), generator=generator)  # class 4 has no image
    probabilities = torch.rand(90, 5, generator=generator).softmax(1)
    return Predictions("multiclass", list("abcde"), [str(n) for n in range(90)], labels, probabilities)


def multilabel(images: int = 90) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (images, 4), generator=generator).char()
    probabilities = torch.randint(0, 11, (images, 4), generator=generator) / 10
    return Predictions("multilabel", list("abcd"), [str(n) for n in range(images)], labels, probabilities)


def test_the_matrix_equals_scikit_learns() -> None:
    tested = single_label()
    expected = sklearns(tested.labels, tested.probabilities.argmax(1), labels=range(5))
    assert confusion_matrix(tested).tolist() == expected.tolist()
    assert confusion_matrix(tested.take([])).tolist() == [[0] * 5] * 5


@pytest.mark.parametrize("group", [1, 2, 3, 5, 7])
def test_neighbouring_classes_are_counted_together(group: int) -> None:
    tested, rows = single_label(), -(-5 // group)
    expected = [[0] * rows for _ in range(rows)]
    for label, predicted in zip(tested.labels.tolist(), tested.probabilities.argmax(1).tolist(), strict=True):
        expected[label // group][predicted // group] += 1
    assert confusion_matrix(tested, group).tolist() == expected


def test_the_most_confused_pairs_come_first_without_what_is_right_or_never_happens() -> None:
    matrix = torch.tensor([[9, 3, 0], [3, 1, 2], [0, 0, 5]])
    expected = [Confused(1, 0, 3, 3 / 6), Confused(0, 1, 3, 3 / 12), Confused(1, 2, 2, 2 / 6)]
    assert most_confused(matrix) == expected
    assert most_confused(matrix, most=1) == expected[:1]


@pytest.mark.parametrize("thresholds", [0.5, torch.tensor([0.2, 0.5, 0.7, 1.0])])
@pytest.mark.parametrize("at_once", [1, 10_000_000])
def test_errors_that_occur_together_are_counted(
    monkeypatch: pytest.MonkeyPatch, thresholds: float | torch.Tensor, at_once: int
) -> None:
    monkeypatch.setattr(confusion, "AT_ONCE", at_once)
    tested = multilabel()
    predicted = (tested.probabilities > thresholds).tolist()
    rows = list(zip(predicted, tested.labels.tolist(), strict=True))
    missed = [sum(label[k] == 1 and not row[k] for row, label in rows) for k in range(4)]
    expected = {}
    for a, b in product(range(4), repeat=2):
        count = sum(label[a] == 1 and not row[a] and label[b] == 0 and row[b] for row, label in rows)
        if count:
            expected[a, b] = (count, count / missed[a])
    found = error_pairs(tested, thresholds)
    assert {(pair.missed, pair.false): pair[2:] for pair in found} == expected
    assert [pair.images for pair in found] == sorted((pair.images for pair in found), reverse=True)
    assert error_pairs(tested, thresholds, most=2) == found[:2]


def test_without_images_there_are_no_error_pairs() -> None:
    assert error_pairs(multilabel(0)) == []
