"""A file with a network's predictions for the images of one split: each image's path, label and probabilities."""

import csv
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fovea.files import atomic_write

log = logging.getLogger(__name__)
MOST_IMAGES, MOST_NUMBERS = 100_000, 10_000_000  # of a CSV; larger files are Parquet
LABEL = {1: "1", 0: "0", -1: ""}  # a multi-label image's: present, absent, unknown


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for N images and K classes.

    Attributes:
        task: whether an image has one label or several.
        class_names: K names.
        paths: N paths of the images.
        labels: (N,) int64 class indices; or (N, K) int8: 1 present, 0 absent, -1 unknown.
        probabilities: (N, K) float32.
    """

    task: Literal["multiclass", "multilabel"]
    class_names: Sequence[str]
    paths: Sequence[str]
    labels: Tensor
    probabilities: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int]) -> "Predictions":
        """Return the images at `rows`, in that order."""
        paths, where = [self.paths[row] for row in rows], torch.tensor(rows, dtype=torch.long)
        return Predictions(self.task, self.class_names, paths, self.labels[where], self.probabilities[where])


def write(folder: Path, name: str, predictions: Predictions) -> Path:
    """Write `<name>.csv`, or `<name>.parquet` if there are many numbers, atomically; return the file.

    The columns are `path`, `label` and `p(<class>)` for each class; for several labels an image, instead of `label`,
    `label(<class>)` for each class: 1, 0 or empty where unknown. Probabilities have 9 digits, which is exact.
    """
    large = len(predictions) > MOST_IMAGES or predictions.probabilities.numel() > MOST_NUMBERS
    if large and importlib.util.find_spec("pyarrow") is None:
        log.warning('%s.csv will be large; with pyarrow it would be Parquet: pip install -e ".[parquet]"', name)
        large = False
    file, other = (folder / f"{name}{suffix}" for suffix in ((".parquet", ".csv") if large else (".csv", ".parquet")))
    with atomic_write(file) as temporary:
        (_write_parquet if large else _write_csv)(temporary, predictions)
    other.unlink(missing_ok=True)  # of an earlier test
    return file


def read(folder: Path, name: str) -> Predictions | None:
    """Read what `write` has written; None if there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    for file, reader in ((folder / f"{name}.csv", _read_csv), (folder / f"{name}.parquet", _read_parquet)):
        if file.is_file():
            try:
                return reader(file)
            except (ValueError, LookupError, OSError, csv.Error) as error:
                raise ValueError(f"{file} is damaged ({error}): run src/evaluate.py for a new one") from error
    return None


def of_test(folder: Path) -> Predictions:
    """Read the test predictions of a run or of an evaluation.

    Raises:
        ValueError: there are none, or the file is damaged.
    """
    found = read(folder, "predictions")
    if found is None:
        raise ValueError(f"{folder} has no predictions of a test: python src/evaluate.py run={folder} makes some")
    return found


def _header(predictions: Predictions) -> list[str]:
    names = predictions.class_names
    labels = ["label"] if predictions.task == "multiclass" else [f"label({name})" for name in names]
    return ["path", *labels, *(f"p({name})" for name in names)]


def _label_rows(predictions: Predictions) -> Iterator[list[str]]:
    if predictions.task == "multiclass":
        return ([predictions.class_names[label]] for label in predictions.labels.tolist())
    return ([LABEL[label] for label in labels] for labels in predictions.labels.tolist())


def _write_csv(file: Path, predictions: Predictions) -> None:
    digits = ["%.9g"] * len(predictions.class_names)
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        writer = csv.writer(out)
        writer.writerow(_header(predictions))
        rows = zip(predictions.paths, _label_rows(predictions), predictions.probabilities.numpy(), strict=True)
        for path, labels, values in rows:
            writer.writerow([path, *labels, *(digit % value for digit, value in zip(digits, values.tolist()))])


def _read_csv(file: Path) -> Predictions:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        rows = csv.reader(lines)
        header = next(rows, [])
        names, several = _names(header)
        paths, labels, values = list[str](), list[Any](), list[Any]()
        for path, *cells in rows:
            paths.append(path)
            labels.append(cells[: len(cells) - len(names)])
            values.append(np.array(cells[len(cells) - len(names) :], np.float32))
    probabilities = torch.from_numpy(np.stack(values)) if values else torch.empty(0, len(names))
    return _predictions(names, several, paths, labels, probabilities)


def _names(header: Sequence[str]) -> tuple[list[str], bool]:
    """Return the class names, and whether an image has several labels."""
    names = [column[2:-1] for column in header if column.startswith("p(")]
    several = "label" not in header[:2]
    expected = [f"label({name})" for name in names] if several else ["label"]
    if not names or list(header) != ["path", *expected, *(f"p({name})" for name in names)]:
        raise ValueError(f"its columns are {', '.join(header[:6])}")
    return names, several


def _predictions(
    names: list[str], several: bool, paths: list[str], labels: list[list[str]], probabilities: Tensor
) -> Predictions:
    if several:
        codes = {text: label for label, text in LABEL.items()}
        targets = torch.tensor([[codes[cell] for cell in row] for row in labels], dtype=torch.int8)
        return Predictions("multilabel", names, paths, targets.reshape(len(paths), len(names)), probabilities)
    numbers = {name: k for k, name in enumerate(names)}
    return Predictions("multiclass", names, paths, torch.tensor([numbers[n] for (n,) in labels]).long(), probabilities)


def _write_parquet(file: Path, predictions: Predictions) -> None:
    import pyarrow
    import pyarrow.parquet

    paths = [path.encode("utf-8", "backslashreplace").decode() for path in predictions.paths]
    labels = predictions.labels.numpy()
    columns: list[Any] = [pyarrow.array(paths)]
    if predictions.task == "multiclass":
        columns.append(
            pyarrow.DictionaryArray.from_arrays(pyarrow.array(labels, "int32"), list(predictions.class_names))
        )
    else:
        columns += [pyarrow.array(column, mask=column == -1) for column in labels.T]
    columns += [pyarrow.array(column) for column in predictions.probabilities.numpy().T]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, _header(predictions)), file)


def _read_parquet(file: Path) -> Predictions:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file)
    names, several = _names(table.column_names)
    arrays = [column.to_numpy() for column in table.columns[-len(names) :]]
    probabilities = torch.from_numpy(np.stack(arrays, axis=1).astype(np.float32))
    paths = table.column("path").to_pylist()
    if several:
        known = [column.fill_null(-1).to_numpy() for column in table.columns[1 : 1 + len(names)]]
        targets = torch.from_numpy(np.stack(known, axis=1).astype(np.int8))
        return Predictions("multilabel", names, paths, targets, probabilities)
    numbers = {name: k for k, name in enumerate(names)}
    labels = torch.tensor([numbers[name] for name in table.column("label").to_pylist()]).long()
    return Predictions("multiclass", names, paths, labels, probabilities)
