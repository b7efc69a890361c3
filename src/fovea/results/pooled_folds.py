"""Pools the test predictions of the folds of a cross-validation, so that each image counts once.

folds.json                      the metrics of each cross-validation: pooled, of each fold, mean and deviation
out_of_fold/1/predictions.csv   the pooled predictions: each image's, of the run that was not trained on its fold

The mean over the folds is that of figures of small test sets. A metric that is no mean over images, such as macro F1 or
AUROC, differs between the mean and the pooled predictions; the latter compare the scores of different networks.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torchmetrics import Metric

from fovea.files import write_safely
from fovea.leaderboard.entries import Entry
from fovea.leaderboard.groups import figure, grouped
from fovea.report import prediction_file
from fovea.report.prediction_file import Predictions
from fovea.report.statistics.intervals import computed, confidence_intervals

FILE, FOLDER = "folds.json", "out_of_fold"


class CrossValidation(NamedTuple):
    """Runs that differ in their fold only.

    Attributes:
        label: what tells them from others; empty if there are no others.
        folds: their number.
        runs: the finished ones.
    """

    label: str
    folds: int
    runs: list[Entry]


def pool(entries: Sequence[Entry], output: Path, metrics: Callable[[Path], Mapping[str, Metric]]) -> list[str]:
    """Write folds.json and the pooled predictions, and return sentences about them; [] if no run has folds.

    Args:
        entries: runs; those without folds are ignored.
        output: the folder to write to, which exists.
        metrics: builds the metrics of the run in a folder.

    Raises:
        ValueError: a run has no predictions, or those of the folds don't fit together.
        OSError: a file can't be written.
    """
    found, lines, content = cross_validations(entries), list[str](), list[dict[str, Any]]()
    for one in found:
        prefix = f"{one.label}: " if one.label else ""
        done = {entry.config["data.fold"] for entry in one.runs}
        if len(done) < one.folds or len(done) < len(one.runs):
            lines.append(f"{prefix}not pooled, as {_lacking(one, done)}")
            continue
        tested = [prediction_file.of_test(entry.folder) for entry in one.runs]
        pooled, folder = joined(tested), output / FOLDER / str(len(content) + 1)
        folder.mkdir(parents=True, exist_ok=True)
        file = prediction_file.write(folder, "predictions", pooled)
        figures = pooled_metrics(metrics(one.runs[0].folder), tested, pooled)
        content.append(
            {
                "label": one.label,
                "folds": one.folds,
                "runs": [entry.name for entry in one.runs],
                "images": len(pooled),
                "predictions": file.relative_to(output).as_posix(),
                "metrics": figures,
            }
        )
        lines += [f"{prefix}{one.folds} folds, {len(pooled):,} images, each tested once: {file}", *_lines(figures)]
    if content:
        write_safely(output / FILE, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return lines


def cross_validations(entries: Sequence[Entry]) -> list[CrossValidation]:
    """Return the cross-validations among the runs, each with its finished runs in the order of the folds."""
    members: dict[tuple[str, Any], list[Entry]] = {}
    for group in grouped(entries):
        for entry in group.entries:
            if entry.config.get("data.folds") is not None:
                members.setdefault((group.label, entry.config.get("seed")), []).append(entry)
    groups, seeds = ({key[n] for key in members} for n in (0, 1))
    found = []
    for (label, seed), runs in members.items():
        words = [label] * (len(groups) > 1) + [f"seed={seed}"] * (len(seeds) > 1)
        finished = [entry for entry in runs if entry.status == "finished"]
        finished.sort(key=lambda entry: int(entry.config["data.fold"]))
        found.append(CrossValidation(" ".join(words), runs[0].config["data.folds"], finished))
    return found


def _lacking(one: CrossValidation, done: set[int]) -> str:
    if len(done) < one.folds:
        return f"{len(done)} of {one.folds} folds are finished"
    return f"{len(one.runs)} runs of {one.folds} folds are finished: name one run of each fold"


def joined(tested: Sequence[Predictions]) -> Predictions:
    """Return the predictions of all folds, in the order of the folds.

    Raises:
        ValueError: the classes differ, or an image is in two folds.
    """
    first = tested[0]
    if any(list(other.class_names) != list(first.class_names) or other.task != first.task for other in tested):
        raise ValueError("the folds are not pooled, as their classes differ: were they made from the same data?")
    paths = [path for one in tested for path in one.paths]
    if len(set(paths)) < len(paths):
        raise ValueError(
            f"the folds are not pooled, as {len(paths) - len(set(paths))} images were tested in several of them: were "
            "they made from the same data, with the same data.split_seed?"
        )
    labels, probabilities = (torch.cat([getattr(one, name) for one in tested]) for name in ("labels", "probabilities"))
    return Predictions(first.task, first.class_names, paths, labels, probabilities)


def pooled_metrics(
    metrics: Mapping[str, Metric], tested: Sequence[Predictions], pooled: Predictions
) -> dict[str, dict[str, Any]]:
    """Return each metric of the pooled predictions and of the folds; undefined values are None.

    Returns:
        {name: {"pooled", "interval" (95 %, of the pooled predictions, or None), "folds" (a value for each), "mean" and
        "deviation" (of the folds; n - 1 in the denominator)}}.
    """
    intervals = confidence_intervals(metrics, pooled.probabilities, pooled.labels)
    found = {}
    for name, metric in metrics.items():
        values, interval = [_defined(computed(metric, one)) for one in tested], intervals[name]
        spread = figure(values)
        found[name] = {
            "pooled": _defined(computed(metric, pooled)),
            "interval": interval and [interval.low, interval.high],
            "folds": values,
            "mean": spread and spread.mean,
            "deviation": spread and spread.deviation,
        }
    return found


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def _lines(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield `accuracy 0.9812 (0.9734 to 0.9882) of all images; 0.9811 ± 0.0051 over the folds`."""
    for name, values in figures.items():
        interval = " ({:.4f} to {:.4f})".format(*values["interval"]) if values["interval"] else ""
        spread = f" ± {values['deviation']:.4f}" if values["deviation"] is not None else ""
        pooled, mean = _text(values["pooled"]), _text(values["mean"])
        yield f"{name} {pooled}{interval} of all images; {mean}{spread} over the folds"


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
