"""Collects what a report shows, while the network and the data are at hand, and writes it into a run's folder.

Each function that predicts must be called on all ranks at the same point; rank 0 writes.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor

from fovea.data.loading.datamodule import ImageDataModule
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.decode import UnreadableImage
from fovea.distributed.gather import gather
from fovea.report import errors, grad_cam, prediction_file, predictions, thumbnail_file
from fovea.report.calibration_file import FILE, Used
from fovea.report.prediction_file import Predictions
from fovea.report.run import gallery
from fovea.report.statistics import baseline, calibration, rejection, thresholds
from fovea.report.statistics.intervals import computed, confidence_intervals
from fovea.results import first_batch
from fovea.runs import checkpoint
from fovea.runs.run_folder import write_json
from fovea.task import ClassificationTask

log = logging.getLogger(__name__)
EARLIER = (  # files that a test does not always write
    *("val_predictions.csv", "val_predictions.parquet", "calibration.json", "suspects.csv"),
    *("thumbnails.zip", "input.json"),
)


def gathered(data: ImageDataModule, split: str, batches: Iterable[Sequence[Tensor]]) -> Predictions:
    """Return the predictions of all ranks for a split.

    Args:
        data: the data.
        split: the split that was predicted.
        batches: this rank's, as the task's `predict_step` returns them.
    """
    all_batches = [batch for of_rank in gather(list(batches)) for batch in of_rank]
    all_batches = all_batches or [(torch.empty(0, data.num_classes), *torch.empty(2, 0, dtype=torch.long))]
    probabilities, indices, _ = predictions.sort_by_index(all_batches)  # none with trainer.limit_test_batches=0
    index = data.splits[split]
    labels = index.targets[indices]
    labels = labels.long() if data.task == "multiclass" else labels
    paths = [short_path(index.paths[i], data.root) for i in indices.tolist()]
    return Predictions(data.task, data.class_names, paths, labels, probabilities)


def short_path(path: str, root: str | None) -> str:
    """Return the path below the data's root, which is the same on other machines; other paths are not changed."""
    return path.removeprefix(os.path.join(os.path.expanduser(root), "")) if root else path


def remove_earlier(folder: Path) -> None:
    """Remove what an earlier test left, which would be of other weights if the run was prolonged."""
    for name in EARLIER:
        (folder / name).unlink(missing_ok=True)


def write_predictions(folder: Path, tested: Predictions) -> None:
    """Write the predictions of the test split, and those that are wrong."""
    prediction_file.write(folder, "predictions", tested)
    predictions.write(folder / "errors.csv", errors.error_rows(tested))


def validate(trainer: Trainer, task: ClassificationTask, data: ImageDataModule) -> Predictions | None:
    """Predict the validation split with the weights that were tested; None if these images were the test.

    If these weights are an average, they are loaded into the task's network and stay there.
    """
    if data.splits["val"] is data.splits["test"]:
        return None
    return gathered(data, "val", trainer.predict(task, data.eval_dataloader("val"), weights_only=True) or [])


def fit(folder: Path, validation: Predictions, used: Used | None) -> None:
    """Write the validation predictions, and what follows from them into calibration.json, for predict.py.

    Args:
        folder: the run's.
        validation: the predictions.
        used: what they were made with; None: not known.
    """
    prediction_file.write(folder, "val_predictions", validation)
    if (validation.labels != -1).any():
        write_json(folder / FILE, fitted(validation) | {"fitted_to": used and used._asdict()})


def use_of(file: Path, config: Mapping[str, Any]) -> Used:
    """Return what predictions with a checkpoint and a config are made with.

    Raises:
        ValueError: the file is damaged.
    """
    run_dir, data = checkpoint.stored_config(file).get("run_dir"), config["data"]
    size = data.get("eval_image_size", data["image_size"])  # a run of an earlier version has one size
    return Used(file.name, checkpoint.read(file).get("global_step"), run_dir, config["monitor"], size)


def fitted(validation: Predictions) -> dict[str, Any]:
    """Return what follows from the validation split.

    Returns:
        temperature: of the logits; with several labels, of all classes.
        reject: for one label an image: the threshold of the calibrated confidence, what it keeps and its accuracy.
        thresholds: for several labels: of each class's probability as it is, before any temperature.
    """
    temperature = calibration.fit_temperature(validation)
    if validation.task == "multilabel":
        return {"temperature": temperature, "thresholds": thresholds.best_thresholds(validation).tolist()}
    cooled = calibration.apply_temperature(validation.probabilities, temperature, validation.task)
    kept = rejection.reject_threshold(replace(validation, probabilities=cooled))
    return {"temperature": temperature, "reject": kept._asdict()}


def compare(
    task: ClassificationTask, tested: Predictions, counts: Mapping[str, Sequence[int]] | None
) -> dict[str, Any]:
    """Return the intervals of the test metrics, and the metrics of always giving the training split's class shares.

    Args:
        task: its metrics are computed.
        tested: the test predictions, of the network that the monitor measures.
        counts: the training split's known labels of each class, as the config's `class_counts`; None: not known.
    """
    prefix = task.tested_prefix
    found = confidence_intervals(task.metrics, tested.probabilities, tested.labels)
    values: dict[str, Any] = {
        "intervals": {f"{prefix}{name}": i and [i.low, i.high] for name, i in found.items()},
    }
    if counts:
        constant = baseline.majority(tested, baseline.class_shares(counts))
        values["majority"] = {f"{prefix}{name}": computed(metric, constant) for name, metric in task.metrics.items()}
    return values


@torch.no_grad()
def keep_images(
    folder: Path, task: ClassificationTask, data: ImageDataModule, tested: Predictions, more: Mapping[str, bytes] | None
) -> None:
    """Write thumbnails of the images that the report shows, heat maps of some, and for a training its first input.

    Heat maps are of the network whose predictions were tested.

    `more` are other thumbnails of a training; None after an evaluation.
    """
    task.eval()
    shown, index = gallery.choose(tested), data.splits["test"]
    numbers = {short_path(path, data.root): n for n, path in enumerate(index.paths)}
    dataset = ImageDataset(index, data.augment["eval"], data.seed, "skip", data.background)
    small = {}
    for row in shown.rows():
        try:
            small[f"test/{row}"] = thumbnail_file.thumbnail(dataset.pixels(numbers[tested.paths[row]]))
        except UnreadableImage as error:
            log.warning("the report does not show an image: %s", error)
    if grad_cam.available():
        small |= _heat(task, dataset, tested, {row: numbers[tested.paths[row]] for row in shown.mistakes})
    if more is not None:
        small |= {**more, **_write_first_batch(folder, task, data)}
    thumbnail_file.write(folder, small)


def _heat(
    task: ClassificationTask, dataset: ImageDataset, tested: Predictions, rows: Mapping[int, int]
) -> dict[str, bytes]:
    """Return the heat maps of wrong images, for the class that was predicted.

    Args:
        task: its networks are in evaluation mode.
        dataset: of the test split.
        tested: the predictions.
        rows: {row: number in the dataset}.
    """
    if not rows:
        return {}
    images = dataset.__getitems__([(0, number, 0) for number in rows.values()]).images
    if len(images) < len(rows):  # one can't be read any more
        return {}
    if tested.task == "multiclass":
        classes = tested.probabilities[list(rows)].argmax(1).tolist()
    else:
        sure = (tested.probabilities - 0.5).abs().masked_fill(~errors.wrong_labels(tested), -1)
        classes = sure[list(rows)].argmax(1).tolist()
    network = task.tested_network.to(task.device)  # an average stays on the device of the test
    maps = grad_cam.heat_maps(network, task.preprocess(images.to(task.device)), classes)
    if maps is None:
        return {}
    pictures = [grad_cam.overlay(image, heat) for image, heat in zip(images, maps, strict=True)]
    return {f"heat/{row}": thumbnail_file.thumbnail(picture) for row, picture in zip(rows, pictures, strict=True)}


def _write_first_batch(folder: Path, task: ClassificationTask, data: ImageDataModule) -> dict[str, bytes]:
    """Return the first training images as they entered the network, and write their labels into input.json."""
    images, labels = first_batch.entered(task, data)
    if labels:
        write_json(folder / "input.json", {"labels": labels})
    return {f"input/{n}": thumbnail_file.thumbnail(image) for n, image in enumerate(images)}
