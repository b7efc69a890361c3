"""Writes predictions as a table with one row per image: CSV, JSON or Parquet, chosen by the file's suffix."""

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

SUFFIXES = (".csv", ".json", ".parquet")
UNKNOWN = "unknown"  # the label of a rejected image


def check_output(file: Path) -> None:
    """Check that the output file can be written, before any prediction is made.

    Raises:
        ValueError: the suffix is none of .csv, .json and .parquet; the file can't be created; or pyarrow is missing.
    """
    if file.suffix not in SUFFIXES:
        raise ValueError(f"output={file}: the suffix must be one of {' '.join(SUFFIXES)}")
    if file.is_dir():
        raise ValueError(f"output={file} is a folder: give a file in it")
    parent = next(folder for folder in file.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"output={file}: no file can be written in {parent}; choose another folder")
    if file.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ValueError(f'output={file}: Parquet needs pyarrow: pip install -e ".[parquet]"')


def sort_by_index(batches: Iterable[Sequence[Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Join batches in index order: probabilities (N, K), their indices (N,) and the unreadable images' indices (S,)."""
    probabilities, indices, unreadable = (torch.cat(parts) for parts in zip(*batches, strict=True))
    order = indices.argsort()
    return probabilities[order], indices[order], unreadable.sort().values


def top_k_rows(paths: Sequence[str], probabilities: Tensor, class_names: Sequence[str], k: int) -> list[dict[str, Any]]:
    """Return rows `path, label, probability, label_2, ...` with the k most probable classes; probabilities: (N, K)."""
    values, classes = probabilities.topk(min(k, len(class_names)), dim=1)  # (N, k)
    rows = []
    for path, row_values, row_classes in zip(paths, values.tolist(), classes.tolist(), strict=True):
        row: dict[str, Any] = {"path": path}
        for rank, (value, index) in enumerate(zip(row_values, row_classes, strict=True), start=1):
            suffix = "" if rank == 1 else f"_{rank}"
            row |= {f"label{suffix}": class_names[index], f"probability{suffix}": round(value, 6)}
        rows.append(row)
    return rows


def multilabel_rows(
    paths: Sequence[str], probabilities: Tensor, class_names: Sequence[str], threshold: float | Tensor
) -> list[dict[str, Any]]:
    """Return rows `path, labels`: the names of classes with a probability of at least their threshold, joined by `;`.

    `threshold` is a number or (K,).
    """
    rows = []
    for path, chosen in zip(paths, probabilities >= threshold, strict=True):
        labels = [class_names[k] for k in chosen.nonzero().flatten().tolist()]
        rows.append({"path": path, "labels": ";".join(labels)})
    return rows


def reject(rows: Iterable[dict[str, Any]], probabilities: Tensor, threshold: float) -> int:
    """Replace the label by UNKNOWN where its probability is below the threshold; return how many there are.

    `probabilities` (N, K) are those of the rows, whose own are rounded.
    """
    below = [row for row, highest in zip(rows, probabilities.amax(1).tolist(), strict=True) if highest < threshold]
    for row in below:
        row["label"] = UNKNOWN
    return len(below)


def most_frequent(rows: Iterable[dict[str, Any]], most: int = 5) -> str:
    """Return the most frequent predicted classes with their counts, as `cat (7)  dog (5)  owl (3)`."""
    counts = Counter(name for row in rows for name in row.get("labels", row.get("label", "")).split(";") if name)
    return "  ".join(f"{name} ({count})" for name, count in counts.most_common(most)) or "none"


def with_probabilities(
    rows: list[dict[str, Any]], probabilities: Tensor, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows with a column `p(<class>)` added for each class, not rounded."""
    columns = [f"p({name})" for name in class_names]
    return [
        row | dict(zip(columns, values, strict=True)) for row, values in zip(rows, probabilities.tolist(), strict=True)
    ]


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows, which all have the same columns; create the file's folder if it is missing."""
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
