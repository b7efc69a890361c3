"""The section of a report about the figures of each class."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from fovea.report.prediction_file import Predictions
from fovea.report.run.texts import rounded
from fovea.report.statistics import thresholds
from fovea.report.statistics.per_class import per_class

COLUMNS = {"average_precision": "AP", "auroc": "ROC AUC", "f1": "F1"}


def class_table(tested: Predictions, chosen: Sequence[float] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The table of classes; and each class's precision-recall curve for run.js, if images have several labels.

    Args:
        tested: the predictions.
        chosen: the thresholds that were tuned on validation, for several labels.
    """
    table = {COLUMNS.get(name, name): column.double() for name, column in per_class(tested)._asdict().items()}
    note = "Recall is also called sensitivity. Empty cells are undefined. Click a column to sort by it."
    data = []
    if tested.task == "multilabel":
        if chosen is not None:
            tuned = thresholds.at_thresholds(tested, torch.tensor(chosen))
            table |= {"threshold": torch.tensor(chosen).double(), "F1 at threshold": tuned["f1"].double()}
            note += " A threshold is the one with the best F1 on validation; the other columns use 0.5."
        data = [_precision_recall(tested, k) for k in range(len(tested.class_names))]
    rows = [
        {"name": name, "figures": [_cell(title, float(column[k])) for title, column in table.items()]}
        for k, name in enumerate(tested.class_names)
    ]
    return {"columns": list(table), "rows": rows, "note": note, "has_curves": bool(data)}, data


def _cell(title: str, value: float) -> dict[str, str]:
    if math.isnan(value):
        return {"exact": "", "text": ""}
    return {"exact": f"{value:.6g}", "text": f"{value:,.0f}" if title == "images" else f"{value:.3f}"}


def _precision_recall(tested: Predictions, k: int) -> dict[str, Any]:
    precision, recall, _ = thresholds.precision_recall_curve(tested.probabilities[:, k], tested.labels[:, k])
    return {
        "x": "recall",
        "steps": rounded(recall.tolist()),
        "curves": {"precision": rounded(precision.tolist())},
        "range_x": [0, 1],
        "range_y": [0, 1.02],
    }
