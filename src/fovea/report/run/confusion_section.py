"""The section of a report about mistakes: which classes are confused, or which labels are wrong."""

from collections.abc import Sequence
from typing import Any

from fovea.report.prediction_file import Predictions
from fovea.report.run.gallery import Gallery, Pair, mistakes
from fovea.report.run.images import short_paths
from fovea.report.statistics.confusion import confusion_matrix, error_pairs, most_confused

MOST_IN_MATRIX = 25  # classes of a confusion matrix with numbers; of more, the page draws a picture
MOST_PAIRS, MOST_FILES = 600, 30  # kinds of mistakes that can be clicked; file names of each
MOST_ROWS = 50  # of the table


def confusion(tested: Predictions, gallery: Gallery) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the confusion matrix, or the errors of each class; and what run.js needs: pairs, names and cells."""
    pairs = _pairs(tested, gallery)
    data: dict[str, Any] = {"pairs": pairs, "names": list(tested.class_names), "cells": []}
    if tested.task == "multilabel":
        return _multilabel(tested, pairs), data
    section: dict[str, Any] = {"title": "Which classes are confused", "pair_header": "label and prediction"}
    section |= {"matrix": None, "canvas": False, "together": [], "has_share": True}
    matrix = confusion_matrix(tested)  # (K, K)
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    if len(matrix) <= MOST_IN_MATRIX:
        section |= {"names": data["names"], "matrix": _rows(matrix.tolist(), shares.tolist(), tested.class_names)}
    else:
        section["canvas"] = True
        cells = matrix.nonzero().tolist()
        data["cells"] = [[i, j, round(float(shares[i, j]), 3), int(matrix[i, j])] for i, j in cells]
    section["pairs"] = [
        _table_row(tested, (c.label, c.prediction), c.images, f"{100 * c.share:.0f} %")
        for c in most_confused(matrix, MOST_ROWS)
    ]
    return section, data


def _multilabel(tested: Predictions, pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = tested.class_names
    return {
        "title": "Which labels are wrong",
        "pair_header": "class",
        "matrix": None,
        "canvas": False,
        "has_share": False,
        "pairs": [_table_row(tested, (p["label"], p["predicted"]), p["count"], "") for p in pairs[:MOST_ROWS]],
        "together": [
            {"missed": names[p.missed], "false": names[p.false], "count": p.images} for p in error_pairs(tested)
        ],
    }


def _pairs(tested: Predictions, gallery: Gallery) -> list[dict[str, Any]]:
    """Return the kinds of mistakes with their images and file names, the frequent ones first."""
    paths, found = short_paths(tested.paths), dict[Pair, list[str]]()
    for row, label, predicted in mistakes(tested).tolist():
        found.setdefault((label, predicted), []).append(paths[row])
    frequent = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_PAIRS]
    return [
        {
            "label": pair[0],
            "predicted": pair[1],
            "title": _pair_text(tested, pair),
            "count": len(files),
            "rows": gallery.pairs.get(pair, []),
            "files": files[:MOST_FILES],
        }
        for pair, files in frequent
    ]


def _pair_text(tested: Predictions, pair: Pair) -> str:
    name = tested.class_names[pair[0]]
    if tested.task == "multiclass":
        return f"{name} predicted as {tested.class_names[pair[1]]}"
    return f"{name} missed" if pair[1] else f"{name} falsely predicted"


def _table_row(tested: Predictions, pair: Pair, count: int, share: str) -> dict[str, Any]:
    return {"key": f"{pair[0]},{pair[1]}", "text": _pair_text(tested, pair), "count": count, "share": share}


def _rows(counts: list[list[int]], shares: list[list[float]], names: Sequence[str]) -> list[dict[str, Any]]:
    def cell(i: int, j: int) -> dict[str, Any]:
        kind = "right" if i == j else "wrong" if counts[i][j] else "none"
        return {"kind": kind, "count": counts[i][j], "share": round(shares[i][j], 3), "pair": f"{i},{j}"}

    return [{"name": name, "cells": [cell(i, j) for j in range(len(names))]} for i, name in enumerate(names)]
