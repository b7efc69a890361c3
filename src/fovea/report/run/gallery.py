"""Chooses the tested images that a report shows."""

from typing import NamedTuple

import torch
from torch import Tensor

from fovea.report.errors import certainty, wrong, wrong_labels
from fovea.report.prediction_file import Predictions

SHOWN = 24  # images of each list
PER_PAIR = 6  # images of a pair of classes
MOST_PAIRED = 400  # images of all pairs

Pair = tuple[int, int]  # (label, prediction); for several labels (class, 1 if it was missed, 0 if falsely predicted)


class Gallery(NamedTuple):
    """Row numbers of predictions.

    Attributes:
        mistakes: wrong images, the most certain first.
        uncertain: right images, the least certain first.
        random: any images.
        pairs: for each kind of mistake, the frequent kinds first, its images, the most certain first.
    """

    mistakes: list[int]
    uncertain: list[int]
    random: list[int]
    pairs: dict[Pair, list[int]]

    def rows(self) -> list[int]:
        """Return all rows, each once, in rising order."""
        of_pairs = [row for rows in self.pairs.values() for row in rows]
        return sorted({*self.mistakes, *self.uncertain, *self.random, *of_pairs})


def choose(predictions: Predictions, seed: int = 0) -> Gallery:
    """Choose images; `seed` decides the random ones."""
    sure, bad = certainty(predictions), wrong(predictions)
    order = sure.argsort(stable=True)  # the least certain first
    shuffled = torch.randperm(len(predictions), generator=torch.Generator().manual_seed(seed))
    return Gallery(
        mistakes=order[bad[order]].flip(0)[:SHOWN].tolist(),
        uncertain=order[~bad[order]][:SHOWN].tolist(),
        random=shuffled[:SHOWN].tolist(),
        pairs=_pairs(predictions, sure),
    )


def mistakes(predictions: Predictions) -> Tensor:
    """Return (M, 3) int64: the row and the pair of each mistake, in the order of rows."""
    if predictions.task == "multiclass":
        rows = wrong(predictions).nonzero().flatten()
        predicted = predictions.probabilities[rows].argmax(1)
        return torch.stack([rows, predictions.labels[rows], predicted], dim=1)
    rows, classes = wrong_labels(predictions).nonzero().unbind(1)
    missed = predictions.labels[rows, classes] == 1
    return torch.stack([rows, classes, missed.long()], dim=1)


def _pairs(predictions: Predictions, sure: Tensor) -> dict[Pair, list[int]]:
    found: dict[Pair, list[int]] = {}
    for row, label, predicted in mistakes(predictions).tolist():
        found.setdefault((label, predicted), []).append(row)
    frequent = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    chosen, left = dict[Pair, list[int]](), MOST_PAIRED
    for pair, rows in frequent:
        rows = sorted(rows, key=lambda row: -float(sure[row]))[: min(PER_PAIR, left)]
        if rows:
            chosen[pair] = rows
        left -= len(rows)
    return chosen
