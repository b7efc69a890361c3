"""What a page shows of two runs that were tested on the same images: figures, and images that only one has right."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from fovea.report.errors import certainty, wrong
from fovea.report.prediction_file import Predictions
from fovea.report.run.comparison import Comparison
from fovea.report.run.images import multilabel_lines, short_paths
from fovea.report.run.texts import figure_text
from fovea.report.statistics import significance

MOST_FILES, MOST_IMAGES = 1000, 24  # of each list: names, and images that have a thumbnail
Aligned = Sequence[Predictions]  # of both runs; row n of each is the same image


class Tested(NamedTuple):
    """A run's name, its test predictions and its thumbnails by name, such as "test/12"."""

    name: str
    predictions: Predictions
    thumbnails: Mapping[str, bytes]


def pair_section(runs: Sequence[Tested], against: Comparison) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the section, and its images for images.js: `images` and `thumbnails`.

    Args:
        runs: two.
        against: the comparison of the first with the second.

    Raises:
        ValueError: they were tested on different images.
    """
    aligned = significance.align(*(run.predictions for run in runs))
    right, sure, small = [~wrong(p) for p in aligned], [certainty(p) for p in aligned], _thumbnails(runs, aligned)
    orders = [_most_certain(right[n] & ~right[1 - n], sure[1 - n]) for n in (0, 1)]
    pictured = [[row for row in order if row in small][:MOST_IMAGES] for order in orders]
    paths = short_paths(aligned[0].paths)
    lists = [
        {"name": run.name, "count": len(order), "rows": rows, "files": [paths[row] for row in order[:MOST_FILES]]}
        for run, order, rows in zip(runs, orders, pictured, strict=True)
    ]
    section = {
        "names": [run.name for run in runs],
        "figures": [_figure(name, against) for name in sorted(against.values)],
        "p_value": f"{against.p_value:.3g}",
        "both_right": int((right[0] & right[1]).sum()),
        "both_wrong": int((~right[0] & ~right[1]).sum()),
        "lists": lists,
    }
    shown = [row for rows in pictured for row in rows]
    images = {str(row): _described(row, paths[row], runs, aligned) for row in shown}
    return section, {"images": images, "thumbnails": {str(row): base64.b64encode(small[row]).decode() for row in shown}}


def _most_certain(chosen: Tensor, sure: Tensor) -> list[int]:
    """Return the chosen rows, the most certain first; both (N,)."""
    rows = chosen.nonzero().flatten()
    order: list[int] = rows[sure[rows].argsort(descending=True, stable=True)].tolist()
    return order


def _thumbnails(runs: Sequence[Tested], aligned: Aligned) -> dict[int, bytes]:
    """Return the thumbnails that either run has, by row."""
    small = {}
    for run, predictions in zip(runs, aligned, strict=True):
        numbers = {path: n for n, path in enumerate(run.predictions.paths)}
        for row, path in enumerate(predictions.paths):
            found = run.thumbnails.get(f"test/{numbers[path]}")
            if found:
                small[row] = found
    return small


def _described(row: int, path: str, runs: Sequence[Tested], aligned: Aligned) -> dict[str, Any]:
    lines = list[tuple[str, str]]()
    for run, predictions in zip(runs, aligned, strict=True):
        if predictions.task == "multilabel":
            lines += [(run.name, "muted"), *multilabel_lines(predictions, row)]
            continue
        label, (value, best) = int(predictions.labels[row]), predictions.probabilities[row].max(0)
        names = predictions.class_names
        lines = lines or [(f"label {names[label]}", "")]
        lines.append((f"{run.name}: {names[int(best)]} {value:.2f}", "good" if label == best else "bad"))
    return {"path": path, "lines": lines, "thumbnail": str(row), "heat": None}


def _figure(name: str, against: Comparison) -> dict[str, Any]:
    difference = against.differences[name]
    return {
        "name": name,
        "values": [figure_text(against.own[name]), figure_text(against.values[name])],
        "difference": "{:+.4f} ({:+.4f} to {:+.4f})".format(*difference[:3]) if difference else "",
        "p_value": f"{difference.p_value:.3f}" if difference else "",
    }


def pair_text(section: Mapping[str, Any]) -> str:
    """Return the section as lines for a terminal, without the images."""
    one, other = section["names"]
    only = [entry["count"] for entry in section["lists"]]
    rows = [["test", one, other, "difference, 95 % interval", "p"]]
    rows += [[f["name"], *f["values"], f["difference"], f["p_value"]] for f in section["figures"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [
            f"{one} against {other}, on the same test images",
            *lines,
            f"both are right on {section['both_right']:,} images and wrong on {section['both_wrong']:,}; only {one} is "
            f"right on {only[0]:,}, only {other} on {only[1]:,} (McNemar's exact test: p = {section['p_value']})",
        ]
    )
