"""Suspects are what a plain loop over the paper's rule finds, and their table can be given to data.corrections."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fovea.data.corrections import correct
from fovea.data.index import Index
from fovea.report.suspects import CHUNK, Suspect, confident_label, rows_of, suspects, write_suspects


def loop(probabilities: Tensor, labels: Tensor) -> list[int]:
    """The suggested class of each image."""
    values, given = probabilities.double().numpy(), labels.tolist()
    classes = range(values.shape[1])
    of_class = [[row[j] for row, label in zip(values, given, strict=True) if label == j] for j in classes]
    suggested = []
    for row, label in zip(values, given, strict=True):
        confident = [j for j in classes if of_class[j] and row[j] >= np.mean(of_class[j])]
        best = max(confident, key=lambda j: row[j], default=label)
        suggested.append(best if row[best] > row[label] else label)
    return suggested


def random(images: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.randn(images, classes, generator=generator)).softmax(1)
    return probabilities, torch.randint(classes, (images,), generator=generator)


@pytest.mark.parametrize(("images", "classes"), [(200, 2), (300, 7), (20, 15), (1, 3), (0, 3)])
def test_single_label_suspects_are_those_of_a_plain_loop(images: int, classes: int) -> None:
    probabilities, labels = random(images, classes)
    suggested = loop(probabilities, labels)
    found = suspects(probabilities, labels, "multiclass")
    assert {one.image: one.suggested for one in found} == {
        n: (j,) for n, j in enumerate(suggested) if j != int(labels[n])
    }
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert one.given == (int(labels[one.image]),)
        assert one.score == pytest.approx(1 - float(probabilities[one.image, labels[one.image]]))


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, labels = random(100, 4)
    whole = confident_label(probabilities, labels)
    monkeypatch.setattr("fovea.report.suspects.CHUNK", 9 * 4)
    assert CHUNK > 9 * 4
    assert torch.equal(confident_label(probabilities, labels), whole)


@pytest.mark.parametrize("classes", [1, 5])
def test_multilabel_suspects_are_decided_class_by_class_over_the_known_labels(classes: int) -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(200, classes, generator=generator)
    labels = torch.randint(-1, 2, (200, classes), generator=generator).char()
    wanted: dict[int, set[int]] = {}
    for k in range(classes):
        known = [n for n in range(200) if labels[n, k] != -1]
        two = torch.stack([1 - probabilities[known, k], probabilities[known, k]], 1)  # absent, present
        given = labels[known, k].long()
        for n, old, new in zip(known, given.tolist(), loop(two, given), strict=True):
            if new != old:
                wanted.setdefault(n, set()).add(k)
    found = suspects(probabilities, labels, "multilabel")
    assert {one.image: set(one.given) ^ set(one.suggested) for one in found} == wanted
    for one in found:
        assert one.given == tuple(k for k in range(classes) if labels[one.image, k] == 1)
        own = [float((probabilities if k in one.given else 1 - probabilities)[one.image, k]) for k in wanted[one.image]]
        assert one.score == pytest.approx(1 - min(own))


def test_planted_errors_are_found_and_nothing_else_in_an_easy_case() -> None:
    truth = torch.arange(60) % 3
    labels = truth.clone()
    labels[[4, 17]] = (truth[[4, 17]] + 1) % 3
    probabilities = torch.eye(3)[truth] * 0.9 + 0.1 / 3
    found = suspects(probabilities, labels, "multiclass")
    assert {one.image: one.suggested for one in found} == {n: (int(truth[n]),) for n in (4, 17)}


def test_classes_whose_probabilities_are_all_equal_reach_their_thresholds() -> None:
    labels = torch.tensor([0] * 7 + [1] * 7 + [0])
    probabilities = torch.tensor([[0.9, 0.1]] * 7 + [[0.1, 0.9]] * 7 + [[0.1, 0.9]])
    assert [one.image for one in suspects(probabilities, labels.int(), "multiclass")] == [14]


def test_an_image_without_a_probability_is_no_suspect_and_moves_no_threshold() -> None:
    probabilities, labels = random(100, 3)
    known = torch.arange(100) % 10 != 0
    gaps = probabilities.clone()
    gaps[~known] = torch.nan
    assert torch.equal(confident_label(gaps, labels)[known], confident_label(probabilities[known], labels[known]))
    assert torch.equal(confident_label(gaps, labels)[~known], labels[~known])
    several = torch.rand(50, 3)
    several[:, 1] = torch.nan
    found = suspects(several, torch.randint(-1, 2, (50, 3)), "multilabel")
    assert not any(1 in set(one.given) ^ set(one.suggested) for one in found)


def test_labels_that_are_all_unknown_have_no_suspects() -> None:
    assert suspects(torch.rand(5, 2), torch.full((5, 2), -1), "multilabel") == []


NAMES = ("cat", "dog, big", "été")
FOUND = [Suspect(1, (0,), (2,), 0.5), Suspect(3, (1, 2), (), 0.987654)]


def test_the_table_has_the_most_suspicious_image_first_and_an_empty_column_for_corrections(tmp_path: Path) -> None:
    paths = [f"/données/{n}.png" for n in range(3)] + ["/données/\udcff.png"]
    write_suspects(tmp_path / "suspects.csv", rows_of(FOUND, paths, "train", NAMES))
    with (tmp_path / "suspects.csv").open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        header, *rows = csv.reader(lines)
    assert header == ["path", "split", "label", "suggested", "score", "correction"]
    assert rows == [
        ["/données/\udcff.png", "train", "dog, big;été", "none", "0.9877", ""],
        ["/données/1.png", "train", "cat", "été", "0.5000", ""],
    ]


@pytest.mark.parametrize("names", [NAMES, ("none", "drop", "été")])
def test_the_suggestions_can_be_copied_into_the_corrections(tmp_path: Path, names: tuple[str, ...]) -> None:
    paths = [f"/data/{n}.png" for n in range(4)]
    targets = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]])
    file = tmp_path / "suspects.csv"
    write_suspects(file, rows_of(FOUND, paths, "train", names))
    data = {"train": Index(paths, targets)}
    untouched = correct(data, "multilabel", names, str(file), "/data")
    assert torch.equal(untouched.splits["train"].targets, targets.char())
    assert not untouched.warnings
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(row | {"correction": row["suggested"]} for row in rows)
    corrected = correct(data, "multilabel", names, str(file), "/data").splits["train"].targets
    assert corrected.tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
