"""Finds the labels of a run's images that look wrong, and writes suspects.csv."""

from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor

from fovea.data.index import Index
from fovea.data.loading.datamodule import ImageDataModule
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.decode import UnreadableImage
from fovea.distributed.gather import gather
from fovea.models.features import features_and_logits
from fovea.report import suspects, thumbnail_file
from fovea.report.prediction_file import Predictions
from fovea.report.run.suspect_section import SHOWN
from fovea.report.statistics.cross_validation import cross_validated
from fovea.report.suspects import Row
from fovea.results.collect import short_path
from fovea.task import ClassificationTask

Found = tuple[Row, Index, int]  # a row of suspects.csv; the image's index and its number there


def find(
    trainer: Trainer,
    task: ClassificationTask,
    data: ImageDataModule,
    predicted: dict[str, Predictions],
    most: int | None,
) -> list[Found]:
    """Return the suspects of all splits, the most suspicious first, each with its index and its number there.

    A network repeats wrong labels that it has learnt. So the probabilities of training images are cross-validated on
    the network's features, and those of other images are the network's own. All ranks must call this at the same point.

    Args:
        trainer: after the test.
        task: features are those of its tested network.
        data: the data.
        predicted: the predictions of val and test, or of one of them.
        most: training images that are checked, drawn at random; None: all.
    """
    index = data.splits["train"]
    chosen = torch.randperm(len(index), generator=torch.Generator().manual_seed(data.seed))[:most].sort().values
    all_chosen = len(chosen) == len(index)
    features, positions = _features(trainer, task, data, index if all_chosen else index.take(chosen))
    if not trainer.is_global_zero:
        return []
    found = []
    if len(positions):
        numbers = chosen[positions]
        labels = index.targets[numbers]
        values = cross_validated(features, labels, data.task, data.num_classes, data.seed)
        found += _rows(values, labels, index, numbers, "train", data)
    for split, predictions in predicted.items():
        rows = {short_path(path, data.root): n for n, path in enumerate(data.splits[split].paths)}
        numbers = torch.tensor([rows[path] for path in predictions.paths], dtype=torch.long)
        found += _rows(predictions.probabilities, predictions.labels, data.splits[split], numbers, split, data)
    return sorted(found, key=lambda one: -one[0].score)


def _rows(
    probabilities: Tensor, labels: Tensor, index: Index, numbers: Tensor, split: str, data: ImageDataModule
) -> list[Found]:
    found = suspects.suspects(probabilities, labels, data.task)
    paths = [short_path(index.paths[n], data.root) for n in numbers.tolist()]
    rows = suspects.rows_of(found, paths, split, data.class_names)
    return [(row, index, int(numbers[one.image])) for row, one in zip(rows, found, strict=True)]


def _features(trainer: Trainer, task: ClassificationTask, data: ImageDataModule, index: Index) -> tuple[Tensor, Tensor]:
    """Return the features (N, D) of the images that can be read, and their numbers in the index (N,)."""
    device = trainer.strategy.root_device
    task.to(device).eval()
    network = task.tested_network.to(device)
    parts: list[tuple[Tensor, Tensor]] = []
    for images, _, indices, _ in data.loader_of(index):
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            features, _ = features_and_logits(network, task.preprocess(images.to(device)))
        parts.append((features.float().cpu(), indices.cpu()))
    gathered = [part for of_rank in gather(parts) for part in of_rank]
    features, numbers = (torch.cat(tensors) for tensors in zip(*gathered, strict=True))
    order = numbers.argsort()
    return features[order], numbers[order]


def write(folder: Path, data: ImageDataModule, found: list[Found]) -> dict[str, bytes]:
    """Write suspects.csv, and return the thumbnails of the first ones, by name."""
    suspects.write_suspects(folder / "suspects.csv", [row for row, _, _ in found])
    small = {}
    for n, (_, index, number) in enumerate(found[:SHOWN]):
        dataset = ImageDataset(index, data.augment["eval"], data.seed, "skip", data.background)
        try:
            small[f"suspect/{n}"] = thumbnail_file.thumbnail(dataset.pixels(number))
        except UnreadableImage:  # since it was predicted; the row is enough
            continue
    return small
