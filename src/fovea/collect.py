"""Collects what a report shows, while the network and the data are at hand, and writes it into a run's folder."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from fovea.data.loading.datamodule import ImageDataModule
from fovea.distributed.gather import gather
from fovea.report import errors, prediction_file, predictions
from fovea.report.prediction_file import Predictions


def gathered(data: ImageDataModule, split: str, batches: Iterable[Sequence[Tensor]]) -> Predictions:
    """Return the predictions of all ranks for a split. All ranks must call this at the same point.

    Args:
        data: the data.
        split: the split that was predicted.
        batches: this rank's, as the task's `predict_step` returns them.
    """
    probabilities, indices, _ = predictions.sort_by_index(
        batch for of_rank in gather(list(batches)) for batch in of_rank
    )
    index = data.splits[split]
    labels = index.targets[indices]
    paths = [index.paths[i] for i in indices.tolist()]
    return Predictions(
        data.task, data.class_names, paths, labels.long() if data.task == "multiclass" else labels, probabilities
    )


def write_predictions(folder: Path, tested: Predictions) -> None:
    """Write the predictions of the test split, and those that are wrong."""
    prediction_file.write(folder, "predictions", tested)
    predictions.write(folder / "errors.csv", errors.error_rows(tested))
