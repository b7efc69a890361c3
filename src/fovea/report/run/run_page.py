"""Writes report.html: what a run or an evaluation did, from the files in its folder."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.report import page, prediction_file, thumbnail_file
from fovea.report.prediction_file import Predictions
from fovea.report.run import advice, gallery, history, images, overview
from fovea.report.run.calibration_section import calibrated
from fovea.report.run.class_table import class_table
from fovea.report.run.comparison import Comparison
from fovea.report.run.confusion_section import confusion
from fovea.report.run.gallery import Gallery
from fovea.report.run.suspect_section import suspect_section

FILE = "report.html"
LISTS = (
    ("mistakes", "The most certain mistakes", "Wrong labels in the data are often among these."),
    ("uncertain", "Right, but uncertain", ""),
    ("random", "Random images", ""),
)


def write(folder: Path, run: Path, changed: Sequence[tuple[str, str, str]], against: Comparison | None = None) -> Path:
    """Write the page and return its file.

    Args:
        folder: of the run or of one of its evaluations; what it does not have is left out of the page.
        run: the run's folder.
        changed: the keys that differ from the defaults: (key, value, default).
        against: the comparison with another run.

    Raises:
        ValueError: a file is damaged.
    """
    results, provenance, fitted = (
        _json(place / f"{name}.json")
        for place, name in ((folder, "results"), (run, "provenance"), (run, "calibration"))
    )
    if results.get("logit_adjustment"):
        fitted = {}  # to probabilities that were not adjusted
    tested, small = prediction_file.read(folder, "predictions"), thumbnail_file.read(folder)
    charts = history.charts(folder / "metrics.csv")
    sections: dict[str, Any] = {"summary": overview.summary(results, provenance, tested, against)}
    data: dict[str, Any] = {"charts": [], "images": {}, "names": []}
    if charts:
        sections["curves"], data["charts"] = overview.curves(charts, results)
    if tested is not None and len(tested):
        split = sections["summary"]["split"]
        data |= _add_test(sections, tested, split, fitted, small, data["charts"])
    suspected = suspect_section(folder / "suspects.csv", small)
    if suspected:
        sections["suspects"] = suspected[0]
        data["images"] |= suspected[1]
    entered = _entered(folder, small)
    if entered:
        sections["input"] = entered
    sections["config"] = overview.config(changed, provenance)
    data["thumbnails"] = _used(data["images"], small)
    about = {**results, "temperature": fitted.get("temperature")}
    tips = advice.suggestions(about, charts, tested, suspected[0]["count"] if suspected else 0)
    title = run.name if folder == run else f"{run.name}, evaluation {folder.name}"
    page.save(folder / FILE, page.render("run.html", title=title, data=data, advice=tips, sections=sections))
    return folder / FILE


def _json(file: Path) -> dict[str, Any]:
    """Return the content of a file; {} if there is none."""
    content: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return content


def _add_test(
    sections: dict[str, Any],
    tested: Predictions,
    split: str,
    fitted: Mapping[str, Any],
    small: Mapping[str, bytes],
    charts: list[dict[str, Any]],
) -> dict[str, Any]:
    """Add the sections about the test, and return their data for run.js; the charts of calibration are appended."""
    shown = gallery.choose(tested)
    sections["confusion"], data = confusion(tested, shown)
    sections["classes"], data["curves"] = class_table(tested, fitted.get("thresholds"))
    sections["images"] = _lists(shown)
    if fitted:
        section, more = calibrated(tested, split, fitted)
        section["charts"] = list(enumerate(section["charts"], start=len(charts)))
        charts += more
        sections["calibration"] = section
    return data | {"images": images.described(tested, shown.rows(), small)}


def _lists(shown: Gallery) -> list[dict[str, Any]]:
    found = [(getattr(shown, name), title, note) for name, title, note in LISTS]
    return [{"title": title, "note": note, "rows": rows} for rows, title, note in found if rows]


def _entered(folder: Path, small: Mapping[str, bytes]) -> list[dict[str, str]]:
    """Return the first training images with their labels, if they were kept."""
    labels = _json(folder / "input.json").get("labels", [])
    return [
        {"data": base64.b64encode(small[f"input/{n}"]).decode(), "label": label}
        for n, label in enumerate(labels)
        if f"input/{n}" in small
    ]


def _used(shown: Mapping[str, Mapping[str, Any]], small: Mapping[str, bytes]) -> dict[str, str]:
    names = [name for image in shown.values() for name in (image["thumbnail"], image["heat"]) if name]
    return {name: base64.b64encode(small[name]).decode() for name in names}
