"""Plant wrong labels in the digits, train as a user would, and count how many of them are found.

    python scripts/benchmark_suspects.py [--seeds 3] [--folder <folder>] [--refit] [overrides of src/train.py]

One label an image (data=csv): 5 % of the training labels become another class, drawn at random. Several labels
(data=multilabel_csv): in 5 % of the training images a known label is inverted, drawn at random from the present or from
the absent ones with equal probability. The wrong labels are written into a new table; validation and test labels stay.
src/train.py is run once for each seed; with --refit five times more, on four fifths of the training images each, to
predict the others, which is the expensive way.

Each way to get probabilities of the training images is a row of five figures: the number of suspects (as
src/fovea/report/suspects.py finds them); the share of them whose label was planted (precision); the share
of the planted labels that is among them (recall); the share of planted labels in the first n suspects, where n is the
number planted; and the share of the planted labels whose true label is suggested. Means over the seeds, with their
standard deviation. --folder keeps the trainings, and a second call uses them again.
"""

import argparse
import csv
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from fovea.data.index import Splits
from fovea.data.sources.digits import read_digits, read_digits_multilabel
from fovea.load_run import load_run
from fovea.models.features import features_and_logits
from fovea.report.statistics import cross_validation
from fovea.report.statistics.cross_validation import cross_validated
from fovea.report.suspects import Task, suspects

TRAIN = str(Path(__file__).resolve().parents[1] / "src" / "train.py")
SHARE, REFITS, CLASSES = 0.05, 5, 10
COMMON = ("model=se_resnet_small", "augment=shift", "optimizer=adamw_small", "data.num_workers=0", "trainer=cpu")


class Case(NamedTuple):
    """A dataset and what a user types for a table of it."""

    task: Task
    read: Callable[[Path], Splits]
    overrides: tuple[str, ...]


CASES = {
    "digits": Case("multiclass", read_digits, ("data=csv", "data.image_size=16", "callbacks=late_best")),
    "digits_multilabel": Case("multilabel", read_digits_multilabel, ("data=multilabel_csv", "data.image_size=32")),
}


class Trained(NamedTuple):
    """The training images of a seed and what the networks say about them.

    Attributes:
        labels, truth: with and without the planted errors, (N,) or (N, K).
        features, logits: of best.ckpt, (N, D) and (N, K).
        last_features: of last.ckpt.
        refitted: (N, K) logits of networks that have not seen the image; None without --refit.
    """

    task: Task
    labels: Tensor
    truth: Tensor
    features: Tensor
    logits: Tensor
    last_features: Tensor
    refitted: Tensor | None


def plant(truth: Tensor, seed: int) -> Tensor:
    """Return the labels with errors."""
    random, labels = np.random.default_rng(seed), truth.clone()
    for image in random.choice(len(labels), round(SHARE * len(labels)), replace=False):
        if labels.ndim == 1:
            labels[image] = (labels[image] + int(random.integers(1, CLASSES))) % CLASSES
            continue
        sides = [(labels[image] == value).nonzero().flatten().tolist() for value in (0, 1)]
        side = int(random.integers(2)) if all(sides) else int(bool(sides[1]))
        labels[image, random.choice(sides[side])] = 1 - side
    return labels


def write_table(file: Path, root: Path, data: Splits, labels: Tensor, held_back: frozenset[int]) -> None:
    """Write the table; training images that are held back take the place of the test images."""
    splits = {"train": data.train, "val": data.val, "test": None if held_back else data.test}
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["path", "split", *(["label"] if labels.ndim == 1 else range(CLASSES))])
        for split, index in splits.items():
            for n, path in enumerate(index.paths if index else ()):
                assert index is not None
                target = (labels if split == "train" else index.targets)[n].reshape(-1).tolist()
                named = "test" if split == "train" and n in held_back else split
                rows.writerow([os.path.relpath(path, root), named, *target])


def train(folder: Path, words: Sequence[str]) -> Path:
    """Train unless the run in `folder` is finished; return the run's folder."""
    finished = [log.parent for log in folder.rglob("train.log") if (log.parent / "per_class.csv").is_file()]
    if not finished:
        environment = os.environ | {"RUNS_DIR": str(folder)}
        done = subprocess.run([sys.executable, TRAIN, *words], env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        print(f"trained {folder}", file=sys.stderr)
        return train(folder, words)
    return finished[0]


@torch.inference_mode()
def outputs(checkpoint: Path, paths: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the features (N, D) and the logits (N, K) of images."""
    run = load_run(checkpoint, "cpu")
    parts = [features_and_logits(run.network, run.preprocess(batch)) for batch in run.batches(paths)]
    features, logits = zip(*parts, strict=True)
    return torch.cat(features), torch.cat(logits)


def trained(name: str, seed: int, folder: Path, refit: bool, overrides: Sequence[str]) -> Trained:
    """Plant errors, train and return the networks' outputs."""
    case, root = CASES[name], folder / "data" / name
    data = case.read(root)
    assert data.train is not None
    paths, truth = list(data.train.paths), data.train.targets.long()
    labels = plant(truth, seed)

    def run(place: Path, held_back: frozenset[int]) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        write_table(place / "labels.csv", root, data, labels, held_back)
        words = (f"data.root={root}", f"data.read.csv={place / 'labels.csv'}", f"seed={seed}")
        return train(place, [*case.overrides, *COMMON, *words, *overrides])

    whole = run(folder / name / str(seed) / "whole", frozenset())
    features, logits = outputs(whole / "checkpoints" / "best.ckpt", paths)
    last, _ = outputs(whole / "checkpoints" / "last.ckpt", paths)
    refitted, order = torch.empty_like(logits), np.random.default_rng(seed).permutation(len(paths))
    for part in range(REFITS) if refit else ():
        rows = sorted(order[part::REFITS].tolist())
        others = run(folder / name / str(seed) / f"without_{part}", frozenset(rows))
        refitted[rows] = outputs(others / "checkpoints" / "best.ckpt", [paths[row] for row in rows])[1]
    return Trained(case.task, labels, truth, features, logits, last, refitted if refit else None)


def ways(one: Trained) -> Iterator[tuple[str, Tensor]]:
    """Yield (way, probabilities (N, K)) for each way to get probabilities."""

    def probabilities(logits: Tensor) -> Tensor:
        return logits.softmax(1) if one.task == "multiclass" else logits.sigmoid()

    def analysed(features: Tensor, folds: int = cross_validation.FOLDS, shrinkage: float | None = None) -> Tensor:
        fixed: Any = mock.patch.object(cross_validation, "_shrinkage", return_value=shrinkage)
        with mock.patch.object(cross_validation, "FOLDS", folds), fixed if shrinkage is not None else nullcontext():
            return cross_validated(features, one.labels, one.task, CLASSES, seed=0)

    yield "the network's own, which has seen the labels", probabilities(one.logits)
    if one.refitted is not None:
        yield f"{REFITS} more trainings, each on the other images", probabilities(one.refitted)
    yield "discriminant analysis of features (the report)", analysed(one.features)
    yield "  of the features of last.ckpt", analysed(one.last_features)
    yield "  of the logits", analysed(one.logits)
    for folds in (2, 3, 10):
        yield f"  with {folds} folds", analysed(one.features, folds=folds)
    for shrinkage in (1e-4, 0.01, 0.1, 0.5, 1.0):
        yield f"  with a shrinkage of {shrinkage:g}", analysed(one.features, shrinkage=shrinkage)
    for strength in (0.01, 0.1, 1.0, 10.0, 100.0):
        yield f"logistic regression of features, C={strength:g}", regressed(one.features, one.labels, strength)
    yield "  of the logits, C=1", regressed(one.logits, one.labels, 1.0)


def regressed(features: Tensor, labels: Tensor, strength: float) -> Tensor:
    """Return cross-validated probabilities of scikit-learn's logistic regression, of one label or of each class."""
    if labels.ndim == 2:
        columns = [_regressed(features, column, strength, KFold)[:, 1] for column in labels.T]
        return torch.stack(columns, 1)
    return _regressed(features, labels, strength, StratifiedKFold)


def _regressed(features: Tensor, labels: Tensor, strength: float, folds: Any) -> Tensor:
    x, y = features.numpy(), labels.numpy()
    result = np.empty((len(y), len(np.unique(y[y >= 0]))), np.float32)
    for others, rows in folds(cross_validation.FOLDS, shuffle=True, random_state=0).split(x, y):
        known = others[y[others] >= 0]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
        result[rows] = model.fit(x[known], y[known]).predict_proba(x[rows])
    return torch.from_numpy(result)


def figures(probabilities: Tensor, one: Trained) -> list[float]:
    """Return the number of suspects, precision, recall, precision of the first n, and share repaired."""
    planted = set((one.labels != one.truth).reshape(len(one.labels), -1).any(1).nonzero().flatten().tolist())
    found = suspects(probabilities, one.labels, one.task)
    hits = [suspect.image in planted for suspect in found]
    repaired = sum(
        suspect.suggested == true_label(one.truth[suspect.image]) for suspect in found if suspect.image in planted
    )
    n = len(planted)
    return [len(found), sum(hits) / max(1, len(hits)), sum(hits) / n, sum(hits[:n]) / n, repaired / n]


def true_label(target: Tensor) -> tuple[int, ...]:
    """Return the classes that are present."""
    return (int(target),) if target.ndim == 0 else tuple((target == 1).nonzero().flatten().tolist())


def compare(name: str, seeds: int, folder: Path, refit: bool, overrides: Sequence[str]) -> None:
    """Print a line for each way."""
    rows: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        one = trained(name, seed, folder, refit, overrides)
        for way, probabilities in ways(one):
            rows.setdefault(way, []).append(figures(probabilities, one))
    print(
        f"\n{name}: {len(one.labels)} training images, {round(SHARE * len(one.labels))} with a wrong label, n={seeds}"
    )
    print(f"{'suspects':>13} {'precision':>13} {'recall':>13} {'of first n':>13} {'repaired':>13}")
    for way, values in rows.items():
        columns = zip(*values, strict=True)
        print(" ".join(cell(column, 3 if k else 0) for k, column in enumerate(columns)), "", way)


def cell(values: Sequence[float], digits: int) -> str:
    """Return mean and deviation as text."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{f'{statistics.mean(values):.{digits}f} ± {deviation:.{digits or 1}f}':>13}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=list(CASES), help="measure only this dataset")
    parser.add_argument("--refit", action="store_true", help="train on four fifths, five times, too")
    parser.add_argument("--folder", type=Path, help="keep the trainings here and use those that are here")
    parser.add_argument("overrides", nargs="*", help="of src/train.py")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (given.folder or Path(scratch)).absolute()
        for name in CASES:
            if given.only in (None, name):
                compare(name, given.seeds, folder, given.refit, given.overrides)


if __name__ == "__main__":
    main()
