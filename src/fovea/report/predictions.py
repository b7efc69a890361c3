"""Predictions as a table, one row an image: CSV, JSON or Parquet by the file's ending."""

import csv
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ENDINGS = (".csv", ".json", ".parquet")


def check_output(file: Path) -> None:
    """Before any work is done.

    Raises:
        ValueError: the ending is none of .csv, .json, .parquet; no such file can be made; pyarrow is missing.
    """
    if file.suffix not in ENDINGS:
        raise ValueError(f"output={file}: the ending must be one of {' '.join(ENDINGS)}")
    if file.is_dir():
        raise ValueError(f"output={file} is a folder: name a file in it")
    there = next(folder for folder in file.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"output={file}: no file can be written in {there}")
    if file.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ValueError(f'output={file}: Parquet needs pyarrow: pip install -e ".[parquet]"')


def in_order(batches: Iterable[Sequence[Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities (N, K), their indices (N,) in order, and the unreadable ones' (S,), of all batches together."""
    probabilities, indices, unreadable = (torch.cat(parts) for parts in zip(*batches, strict=True))
    order = indices.argsort()
    return probabilities[order], indices[order], unreadable.sort().values


def best_first(paths: Sequence[str], probabilities: Tensor, class_names: Sequence[str], k: int) -> list[dict[str, Any]]:
    """Rows `path, label, probability, label_2, ...` of the k most probable classes of (N, K)."""
    values, classes = probabilities.topk(min(k, len(class_names)), dim=1)  # (N, k)
    rows = []
    for path, row_values, row_classes in zip(paths, values.tolist(), classes.tolist(), strict=True):
        row: dict[str, Any] = {"path": path}
        for place, (value, index) in enumerate(zip(row_values, row_classes, strict=True), start=1):
            suffix = "" if place == 1 else f"_{place}"
            row |= {f"label{suffix}": class_names[index], f"probability{suffix}": round(value, 6)}
        rows.append(row)
    return rows


def above(
    paths: Sequence[str], probabilities: Tensor, class_names: Sequence[str], threshold: float
) -> list[dict[str, Any]]:
    """Rows `path, labels` of multi-label data: the names of classes at least `threshold` probable, joined by `;`."""
    rows = []
    for path, row in zip(paths, probabilities.tolist(), strict=True):
        named = [name for name, value in zip(class_names, row, strict=True) if value >= threshold]
        rows.append({"path": path, "labels": ";".join(named)})
    return rows


def most_frequent(rows: Iterable[dict[str, Any]], most: int = 5) -> str:
    """`cat (7)  dog (5)  owl (3)`: how often the classes were named that were named most often."""
    named = Counter(name for row in rows for name in row.get("labels", row.get("label", "")).split(";") if name)
    return "  ".join(f"{name} ({count})" for name, count in named.most_common(most)) or "none"


def with_all(rows: list[dict[str, Any]], probabilities: Tensor, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with a column `p(<class>)` for each class added, unrounded."""
    columns = [f"p({name})" for name in class_names]
    return [
        row | dict(zip(columns, values, strict=True)) for row, values in zip(rows, probabilities.tolist(), strict=True)
    ]


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """All rows have the same columns. The file's folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".json":
        file.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8", "surrogateescape")
    elif file.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
            writer = csv.DictWriter(out, list(rows[0]) if rows else ["path"])
            writer.writeheader()
            writer.writerows(rows)
