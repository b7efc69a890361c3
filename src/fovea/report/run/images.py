"""What a report's page says of each image that it shows."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from fovea.report.errors import wrong_labels
from fovea.report.prediction_file import Predictions

TOP = 3  # classes
MOST_LABELS = 12  # of an image, in its caption


def described(
    predictions: Predictions, rows: Sequence[int], thumbnails: Mapping[str, bytes]
) -> dict[str, dict[str, Any]]:
    """Return what run.js needs to show the images at `rows`.

    Each has a short `path`, `lines` of (text, style) for its caption, and the names of its `thumbnail` and of its
    `heat` map in `thumbnails`, or None.
    """
    paths = short_paths(predictions.paths)
    single = predictions.task == "multiclass"
    found = {}
    for row in rows:
        thumbnail, heat = f"test/{row}", f"heat/{row}"
        found[str(row)] = {
            "path": paths[row],
            "lines": single_label_lines(predictions, row) if single else multilabel_lines(predictions, row),
            "thumbnail": thumbnail if thumbnail in thumbnails else None,
            "heat": heat if heat in thumbnails else None,
        }
    return found


def short_paths(paths: Sequence[str]) -> list[str]:
    """Return the paths below the folder that all of them share."""
    folders = {os.path.dirname(path) for path in paths}
    try:
        common = os.path.commonpath(folders) if folders else ""
    except ValueError:  # some are relative, or on another drive
        return list(paths)
    return [os.path.relpath(path, common) if common else path for path in paths]


def single_label_lines(predictions: Predictions, row: int) -> list[tuple[str, str]]:
    """Return the label, the prediction if it is another one, and the most probable classes."""
    names, values = predictions.class_names, predictions.probabilities[row]
    label, best = int(predictions.labels[row]), int(values.argmax())
    most = values.topk(min(TOP, len(names)))
    top = " · ".join(
        f"{names[k]} {value:.2f}" for value, k in zip(most.values.tolist(), most.indices.tolist(), strict=True)
    )
    if label == best:
        return [(names[label], "good"), (top, "muted")]
    return [(f"predicted {names[best]}", "bad"), (f"label {names[label]}", ""), (top, "muted")]


def multilabel_lines(predictions: Predictions, row: int) -> list[tuple[str, str]]:
    """Return the missed, the falsely predicted and the rightly predicted classes, each with its probability."""
    one = predictions.take([row])
    bad, present = wrong_labels(one)[0], one.labels[0] == 1

    def joined(chosen: Any) -> str:
        classes = chosen.nonzero().flatten().tolist()
        names = [f"{one.class_names[k]} {one.probabilities[0, k]:.2f}" for k in classes[:MOST_LABELS]]
        return ", ".join(names) + (f" and {len(classes) - MOST_LABELS} more" if len(classes) > MOST_LABELS else "")

    lines = [(joined(bad & present), "missed", "bad"), (joined(bad & ~present), "false", "bad")]
    lines.append((joined(~bad & present), "right", "good"))
    return [(f"{what}: {text}", style) for text, what, style in lines if text] or [("no label", "muted")]
