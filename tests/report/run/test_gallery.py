"""The images that a report shows, by plain loops."""

import pytest
import torch
from run_files import predictions

from fovea.report.run import gallery
from fovea.report.run.gallery import MOST_PAIRED, PER_PAIR, SHOWN, choose, mistakes


def test_mistakes_come_with_the_most_certain_first_and_right_ones_with_the_least_certain() -> None:
    tested = predictions("multiclass", 4, 200)
    sure, predicted = tested.probabilities.max(1)
    bad = [(float(sure[n]), n) for n in range(200) if predicted[n] != tested.labels[n]]
    good = [(float(sure[n]), n) for n in range(200) if predicted[n] == tested.labels[n]]
    shown = choose(tested)
    assert shown.mistakes == [n for _, n in sorted(bad, reverse=True)][:SHOWN]
    assert shown.uncertain == [n for _, n in sorted(good)][:SHOWN]
    assert len(set(shown.random)) == SHOWN
    assert shown == choose(tested)
    assert shown.random != choose(tested, seed=1).random


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_each_kind_of_mistake_has_its_own_images(task: str) -> None:
    tested = predictions(task, 4, 200)  # type: ignore[arg-type]
    shown = choose(tested)
    kinds: dict[tuple[int, int], set[int]] = {}
    for row in range(200):
        if task == "multiclass":
            label, predicted = int(tested.labels[row]), int(tested.probabilities[row].argmax())
            if label != predicted:
                kinds.setdefault((label, predicted), set()).add(row)
        else:
            for k in range(4):
                label, present = int(tested.labels[row, k]), int(tested.probabilities[row, k] > 0.5)
                if label not in (-1, present):
                    kinds.setdefault((k, label), set()).add(row)
    assert {tuple(pair): None for _, *pair in mistakes(tested).tolist()}.keys() == kinds.keys() == shown.pairs.keys()
    for pair, rows in shown.pairs.items():
        assert len(rows) == min(PER_PAIR, len(kinds[pair]))
        assert set(rows) <= kinds[pair]
    assert set(shown.rows()) >= {*shown.mistakes, *shown.uncertain, *shown.random}


def test_the_images_of_all_pairs_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MOST_PAIRED", 11)
    shown = choose(predictions("multiclass", 6, 600))
    assert sum(map(len, shown.pairs.values())) == 11
    assert MOST_PAIRED > 11


def test_a_test_without_mistakes_and_one_of_a_single_image_have_galleries() -> None:
    tested = predictions("multiclass", 3, 1)
    right = tested.probabilities.argmax(1)
    perfect = type(tested)("multiclass", tested.class_names, tested.paths, right, tested.probabilities)
    assert choose(perfect) == gallery.Gallery([], [0], [0], {})
    assert torch.equal(mistakes(perfect), torch.empty(0, 3, dtype=torch.long))
