"""Finds images whose label looks wrong, by confident learning on out-of-sample probabilities.

Source: Northcutt et al. 2021, https://arxiv.org/abs/1911.00068, section 3.1: the images off the diagonal of the
confident joint. Deviation: an image is no suspect if its label is the more probable class, as in the authors' cleanlab.
Probabilities of training images come from statistics/cross_validation.py.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fovea.files import atomic_write

Task = Literal["multiclass", "multilabel"]
CHUNK = 1 << 22  # numbers; a mask of all (N, K) may take gigabytes
NONE = "none"  # no class, as data.corrections reads it; <none> if a class has this name


class Suspect(NamedTuple):
    """An image whose label looks wrong.

    Attributes:
        image: its number.
        given: the classes that are present by its label; one for a single label.
        suggested: the classes that are more likely present.
        score: 1 - the probability of the given label, in [0, 1]; for several labels, of the least probable one. Higher
            is more suspicious.
    """

    image: int
    given: tuple[int, ...]
    suggested: tuple[int, ...]
    score: float


def suspects(probabilities: Tensor, labels: Tensor, task: Task) -> list[Suspect]:
    """Return the images whose label looks wrong, the most suspicious first.

    With t_j the mean probability of class j over the images labelled j: an image is a suspect if the most probable of
    the classes with p_j >= t_j is more probable than its label. For several labels, this is decided for each class
    between present and absent, over the known labels.

    Args:
        probabilities: (N, K) float, of a model that has not seen the image's label; nan where there is none: such
            labels are no suspects.
        labels: (N,) class indices, or (N, K) with 1 present, 0 absent, -1 unknown.
        task: "multiclass" or "multilabel".
    """
    found = _of_one_label(probabilities, labels) if task == "multiclass" else _of_several(probabilities, labels)
    return sorted(found, key=lambda suspect: -suspect.score)


def _of_one_label(probabilities: Tensor, labels: Tensor) -> Iterator[Suspect]:
    suggested = confident_label(probabilities, labels.long())
    for image in (suggested != labels).nonzero().flatten().tolist():
        given = int(labels[image])
        yield Suspect(image, (given,), (int(suggested[image]),), 1 - float(probabilities[image, given]))


def _of_several(probabilities: Tensor, labels: Tensor) -> Iterator[Suspect]:
    wrong = torch.zeros(labels.shape, dtype=torch.bool)  # (N, K)
    for k, (column, known) in enumerate(zip(probabilities.T, (labels != -1).T, strict=True)):
        given = labels[known, k].long()
        two = torch.stack([1 - column[known], column[known]], dim=1)  # (n, 2): absent, present
        wrong[known, k] = confident_label(two, given) != given
    for image in wrong.any(1).nonzero().flatten().tolist():
        present, own = labels[image] == 1, probabilities[image]  # (K,)
        least = own.where(present, 1 - own)[wrong[image]].min()
        yield Suspect(image, _numbers(present), _numbers(present ^ wrong[image]), 1 - float(least))


def _numbers(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero().flatten().tolist())


def confident_label(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the most probable class that reaches its threshold, or the label if none is more probable: (N,) int64.

    Args:
        probabilities: (N, K); an image whose row has a nan keeps its label.
        labels: (N,) int64.
    """
    own = probabilities.gather(1, labels[:, None])[:, 0]  # (N,)
    known, num_classes = ~own.isnan(), probabilities.shape[1]
    sums = torch.zeros(num_classes, dtype=torch.float64).index_add(0, labels[known], own[known].double())
    thresholds = sums / torch.bincount(labels[known], minlength=num_classes)  # (K,); nan without an image
    suggested = labels.clone()
    for some in torch.arange(len(labels)).split(max(1, CHUNK // num_classes)):
        values = probabilities[some]
        highest, number = values.where(values >= thresholds, -torch.inf).max(1)
        suggested[some] = number.where(highest > own[some], labels[some])
    return suggested


class Row(NamedTuple):
    """A row of suspects.csv; the labels are class names, joined by `;` if an image has several."""

    path: str
    split: str
    label: str
    suggested: str
    score: float


def rows_of(found: Iterable[Suspect], paths: Sequence[str], split: str, class_names: Sequence[str]) -> list[Row]:
    """Return the rows of a split's suspects; `paths` are those of all its images."""

    def text(classes: tuple[int, ...]) -> str:
        none = f"<{NONE}>" if NONE in class_names else NONE
        return ";".join(class_names[k] for k in classes) or none

    return [Row(paths[one.image], split, text(one.given), text(one.suggested), one.score) for one in found]


def write_suspects(file: Path, rows: Iterable[Row]) -> None:
    """Write suspects.csv atomically, the most suspicious image first, with an empty column `correction`.

    A person writes there and gives the table to data.corrections. It begins with a byte order mark, because
    spreadsheets would otherwise not read it as UTF-8.
    """
    with (
        atomic_write(file) as temporary,
        temporary.open("w", newline="", encoding="utf-8-sig", errors="surrogateescape") as out,
    ):
        writer = csv.writer(out)
        writer.writerow([*Row._fields, "correction"])
        for row in sorted(rows, key=lambda row: -row.score):
            writer.writerow([*row[:-1], f"{row.score:.4f}", ""])
