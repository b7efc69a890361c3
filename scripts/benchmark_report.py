"""Measure what a run's report costs: made-up predictions of any size, and the seconds of each part of the report.

    python scripts/benchmark_report.py [--classes 1000] [--images 50000] [--multilabel] [--rounds 3]

The predictions are random, mostly right. What depends on the network is not measured here: predicting the validation
split, the features of the training images, and heat maps take about as long as one evaluation of these images each.
Medians over the rounds are printed, with the page's size.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics.classification import MulticlassAccuracy

from fovea.metrics.average_precision import MeanAveragePrecision
from fovea.metrics.precision_recall import MacroF1
from fovea.metrics.top_k import top_k_accuracy
from fovea.report import prediction_file, thumbnail_file
from fovea.report.prediction_file import Predictions
from fovea.report.run import gallery, run_page
from fovea.report.statistics.intervals import confidence_intervals
from fovea.results import collect

SIDE = 224  # pixels of the images that become thumbnails


def made_up(classes: int, images: int, multilabel: bool, seed: int) -> Predictions:
    """Return predictions of which about four fifths are right."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, generator=generator)
    names, paths = [f"class {k}" for k in range(classes)], [f"class/{n:06}.jpg" for n in range(images)]
    if multilabel:
        present = (torch.rand(images, classes, generator=generator) < min(0.3, 3 / classes)).char()
        return Predictions("multilabel", names, paths, present, (logits + 4 * present - 3).sigmoid())
    labels = torch.randint(classes, (images,), generator=generator)
    logits[torch.arange(images), labels] += 3 if classes < 100 else 4.5
    return Predictions("multiclass", names, paths, labels, logits.softmax(1))


def metrics_for(tested: Predictions) -> dict[str, Any]:
    """Return the metrics of conf/metrics, except those that are as fast as another one."""
    classes = len(tested.class_names)
    if tested.task == "multilabel":
        return {"mAP": MeanAveragePrecision(classes), "f1_macro": MacroF1(classes)}
    accuracy = MulticlassAccuracy(classes, average="micro", validate_args=False)
    found = {"accuracy": accuracy, "top5": top_k_accuracy(classes, 5), "f1": MacroF1(classes)}
    return {name: metric for name, metric in found.items() if metric is not None}


def measure(folder: Path, tested: Predictions, validation: Predictions) -> dict[str, float]:
    """Return the seconds of each part."""
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), dtype=np.uint8))
    (folder / "results.json").write_text(json.dumps({"status": "finished", "monitor": "val/accuracy", "test": {}}))

    def thumbnails() -> None:
        rows = gallery.choose(tested).rows()
        thumbnail_file.write(folder, {f"test/{row}": thumbnail_file.thumbnail(pixels) for row in rows})

    parts: dict[str, Callable[[], object]] = {
        "predictions of the test": lambda: collect.write_predictions(folder, tested),
        "calibration on as many": lambda: collect.fit(folder, validation, None),
        "intervals": lambda: confidence_intervals(metrics_for(tested), tested.probabilities, tested.labels),
        "thumbnails": thumbnails,
        "page": lambda: run_page.write(folder, folder, []),
        "reading the predictions alone": lambda: prediction_file.read(folder, "predictions"),
    }
    seconds = {}
    for name, part in parts.items():
        start = time.perf_counter()
        part()
        seconds[name] = time.perf_counter() - start
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--multilabel", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    tested, validation = (made_up(given.classes, given.images, given.multilabel, seed) for seed in (0, 1))
    with tempfile.TemporaryDirectory() as folder:
        rounds = [measure(Path(folder), tested, validation) for _ in range(given.rounds)]
        megabytes = (Path(folder) / run_page.FILE).stat().st_size / 1e6
    print(f"{given.images:,} images, {given.classes:,} classes, medians of {given.rounds}; page of {megabytes:.2f} MB")
    for name in rounds[0]:
        values = [seconds[name] for seconds in rounds]
        print(f"{statistics.median(values):8.2f} s  ({min(values):.2f} to {max(values):.2f})  {name}")


if __name__ == "__main__":
    main()
