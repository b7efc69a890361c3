"""Reads what a run measured as pandas data frames: its test metrics, its history and its test predictions.

pandas is an optional dependency: `pip install -e ".[pandas]"`.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torchmetrics import Metric

from fovea.report import prediction_file
from fovea.report.errors import THRESHOLD, wrong
from fovea.report.prediction_file import Predictions
from fovea.report.run import comparison
from fovea.report.run.comparison import Comparison
from fovea.report.statistics import significance
from fovea.runs.results_file import results_of

if TYPE_CHECKING:
    from pandas import DataFrame

UNKNOWN = (math.nan,) * 3


@dataclass(frozen=True, eq=False)
class RunComparison:
    """How a run's test differs from another run's test on the same images.

    Attributes:
        metrics: index: metric; columns: value (of this run), other (of the other run), difference (value - other), low
            and high (the difference's 95 % interval) and p_value (of no difference); the last three are nan where no
            interval can be computed.
        images: a row for each image, in this run's order: path, label, predicted, other_predicted, right, other_right.
            For several labels an image, the first three texts after the path are class names joined by ";", and an
            image is right if all of its known labels are.
        p_value: of McNemar's exact test of the hypothesis that both runs have the same error rate.
        only_one: the number of images that only this run gets right.
        only_other: the number of images that only the other run gets right.
    """

    metrics: "DataFrame"
    images: "DataFrame"
    p_value: float
    only_one: int
    only_other: int


@dataclass(frozen=True)
class RunTables:
    """The tables of a run, or of one of its evaluations; each method reads the files anew.

    Each method raises a ValueError if pandas is not installed, or if a file is damaged or not there.

    Attributes:
        folder: of the run or of the evaluation.
    """

    folder: str | PathLike[str]

    def metrics(self) -> "DataFrame":
        """Return the test metrics; index: metric; columns: value, low, high, majority; nan where undefined.

        `low` and `high` are the 95 % interval's. `majority` is the figure of a classifier that gives each image the
        training split's class shares.
        """
        pandas, content = _pandas(), results_of(Path(self.folder))
        if not content.get("test"):
            raise ValueError(
                f"{self.folder} has no figures of a test: python src/evaluate.py run={self.folder} makes some"
            )
        intervals, majority = (content.get(name) or {} for name in ("intervals", "majority"))
        rows = {
            name: (value, *(intervals.get(name) or (None, None)), majority.get(name))
            for name, value in content["test"].items()
        }
        return _by_metric(pandas, rows, ["value", "low", "high", "majority"])

    def history(self) -> "DataFrame":
        """Return metrics.csv; index: step; a column for the epoch and for each logged figure, nan where not logged."""
        pandas, file = _pandas(), Path(self.folder) / "metrics.csv"
        if not file.is_file():
            raise ValueError(f"{file} is not there: only a run that has been trained has a history")
        try:
            return pandas.DataFrame(_columns(file)).set_index("step")
        except (ValueError, LookupError, csv.Error) as error:
            raise ValueError(f"{file} is damaged ({error}): train again, or repair the file") from error

    def predictions(self) -> "DataFrame":
        """Return a row for each test image, with its path, label and probabilities.

        One label an image: path, label, predicted (the most probable class), right (bool), p(<class>) for each class.
        Several labels: path, label(<class>) for each class (1, 0, or missing where unknown), p(<class>) for each class.
        """
        pandas = _pandas()
        tested = prediction_file.of_test(Path(self.folder))
        names, labels = tested.class_names, tested.labels
        images = pandas.DataFrame({"path": _paths(pandas, tested)})
        probabilities = pandas.DataFrame(tested.probabilities.numpy(), columns=[f"p({name})" for name in names])
        if tested.task == "multilabel":
            known = pandas.DataFrame(labels.numpy(), columns=[f"label({name})" for name in names])
            return pandas.concat([images, known.astype("Int8").mask(known == -1), probabilities], axis=1)
        images["label"] = _class_column(pandas, tested, labels)
        images["predicted"] = _class_column(pandas, tested, _predicted(tested))
        images["right"] = ~wrong(tested).numpy()
        return pandas.concat([images, probabilities], axis=1)

    def compare(self, other: str | PathLike[str], metrics: Mapping[str, Metric]) -> RunComparison:
        """Compare the test predictions with those in another folder.

        Args:
            other: of a run or of an evaluation.
            metrics: by name; each computes a scalar, such as `load_run(folder).task.metrics`.

        Raises:
            ValueError: the images, their labels or the classes differ.
        """
        pandas, name = _pandas(), Path(other).name
        one, second = (prediction_file.of_test(Path(folder)) for folder in (self.folder, other))
        found = comparison.compare(name, one, second, metrics)
        rows = {key: _compared(found, key) for key in metrics}
        table = _by_metric(pandas, rows, ["value", "other", "difference", "low", "high", "p_value"])
        images = _image_rows(pandas, *significance.align(one, second))
        return RunComparison(table, images, found.p_value, found.only_one, found.only_other)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ValueError('data frames need pandas: pip install -e ".[pandas]"') from error
    return pandas


def _columns(file: Path) -> dict[str, list[float]]:
    """Return the numbers of metrics.csv by column; nan for empty cells."""
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(line for line in lines if line.endswith("\n"))  # a full disk cuts off the last row
        rows = list(reader)
    kinds = {name: int if name in ("step", "epoch") else float for name in reader.fieldnames or ()}
    return {name: [kind(row[name]) if row[name] else math.nan for row in rows] for name, kind in kinds.items()}


def _by_metric(pandas: Any, rows: Mapping[str, Sequence[float | None]], columns: list[str]) -> "DataFrame":
    frame = pandas.DataFrame.from_dict(rows, orient="index", columns=columns, dtype="float64")
    return frame.rename_axis("metric")


def _compared(found: Comparison, name: str) -> tuple[float, ...]:
    """Return value, other, difference, low, high and p_value."""
    value, other, difference = found.own[name], found.values[name], found.differences[name]
    return value, other, value - other, *(difference[1:] if difference else UNKNOWN)


def _image_rows(pandas: Any, one: Predictions, other: Predictions) -> "DataFrame":
    columns = {
        "path": _paths(pandas, one),
        "label": _class_column(pandas, one, one.labels if one.task == "multiclass" else one.labels == 1),
        "predicted": _class_column(pandas, one, _predicted(one)),
        "other_predicted": _class_column(pandas, one, _predicted(other)),
    }
    return pandas.DataFrame(columns | {"right": ~wrong(one).numpy(), "other_right": ~wrong(other).numpy()})


def _predicted(predictions: Predictions) -> Tensor:
    """Return the predicted classes: (N,) int64; or (N, K) bool for several labels."""
    values = predictions.probabilities
    return values.argmax(1) if predictions.task == "multiclass" else values > THRESHOLD


def _class_column(pandas: Any, predictions: Predictions, classes: Tensor) -> Any:
    """Return class names: a categorical of classes (N,) int64; texts of (N, K) bool, with names joined by ";"."""
    names = list(predictions.class_names)
    if classes.ndim == 1:
        return pandas.Categorical.from_codes(classes.numpy(), names)
    return [";".join(names[k] for k in row.nonzero().flatten().tolist()) for row in classes]


def _paths(pandas: Any, predictions: Predictions) -> Any:
    return pandas.Series(list(predictions.paths), dtype=object)  # pandas' own strings refuse paths that are not UTF-8
