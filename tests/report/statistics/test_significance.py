"""Aligning predictions by image, and McNemar's test, against the sum of binomial probabilities."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fovea.report.prediction_file import Predictions
from fovea.report.statistics.significance import align, mcnemar

NAMES = ["ant", "bee", "cat"]
PATHS = ["/data/a/test/ant/1.png", "/data/a/test/bee/1.png", "/data/a/test/cat/1.png", "/data/a/test/cat/2.png"]


def predictions(paths: list[str] | None = None, labels: Tensor | None = None) -> Predictions:
    probabilities = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    labels = torch.tensor([0, 1, 2, 2]) if labels is None else labels
    return Predictions("multiclass", NAMES, PATHS if paths is None else paths, labels, probabilities)


def moved(paths: list[str]) -> list[str]:
    return [path.replace("/data/a", "/home/me/copy") for path in paths]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_images_are_matched_in_any_order_and_in_any_folder(elsewhere: bool) -> None:
    one, order = predictions(), [2, 0, 3, 1]
    other = predictions().take(order)
    if elsewhere:
        other = replace(other, paths=moved(list(other.paths)))
    first, second = align(one, other)
    assert first is one
    assert list(second.paths) == (moved(PATHS) if elsewhere else PATHS)
    assert torch.equal(second.probabilities, one.probabilities)
    assert torch.equal(second.labels, one.labels)


def test_equal_paths_are_matched_though_their_common_folder_differs_from_that_of_other_runs() -> None:
    single = Predictions("multiclass", NAMES, ["x/1.png"], torch.tensor([1]), torch.eye(3)[:1])
    assert align(single, replace(single, paths=["/elsewhere/1.png"]))[1].paths == ["/elsewhere/1.png"]
    with pytest.raises(ValueError, match=r"1 of 1 are only in the first, such as 1.png"):
        align(single, replace(single, paths=["/elsewhere/2.png"]))
    empty = single.take([])
    assert align(empty, empty) == (empty, empty)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(predictions(), task="multilabel"), "the first predictions are multiclass, the second multilabel"),
        (replace(predictions(), class_names=["ant", "bee"]), "3 classes, the second 2"),
        (replace(predictions(), class_names=["ant", "cat", "bee"]), "class 1 is 'bee' in the first run and 'cat' in"),
        (predictions([*moved(PATHS[:3]), moved(PATHS[:1])[0]]), "1 paths occur more than once in the second"),
        (predictions().take([0, 1, 2]), r"different images: 1 of 4 are only in the first, such as cat/2.png"),
        (predictions(labels=torch.tensor([0, 1, 2, 0])), r"labels of 1 of 4 .* that of /data/a/test/cat/2.png"),
    ],
)
def test_what_cannot_be_compared_is_refused(other: Predictions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align(predictions(), other)


def test_labels_of_several_classes_are_compared(tmp_path: Path) -> None:
    labels = torch.tensor([[1, 0, -1]] * 4, dtype=torch.int8)
    one = replace(predictions(labels=labels), task="multilabel")
    assert align(one, one)[1] is one
    changed = labels.clone()
    changed[1, 2] = 0
    with pytest.raises(ValueError, match=r"labels of 1 of 4 images differ .* /data/a/test/bee/1.png"):
        align(one, replace(one, labels=changed))


@pytest.mark.parametrize("counts", [(0, 0), (3, 0), (5, 5), (4, 13), (30, 12)])
def test_the_p_value_is_the_sum_of_binomial_probabilities(counts: tuple[int, int]) -> None:
    first, second = counts
    one = torch.tensor([True] * first + [False] * second + [True] * 7 + [False] * 4)
    other = torch.tensor([False] * first + [True] * second + [True] * 7 + [False] * 4)
    tail = sum(math.comb(first + second, k) for k in range(min(counts) + 1)) / 2 ** (first + second)
    found = mcnemar(one, other)
    assert found[:2] == counts
    assert found.p_value == pytest.approx(min(1, 2 * tail))
