"""The section of a report about labels that look wrong, from suspects.csv."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHOWN = 24  # images


def suspect_section(file: Path, small: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the number of suspects and the keys of those that are shown; and their images for run.js.

    None if there is no such file, or no suspect.
    """
    if not file.is_file():
        return None
    with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
        rows = list(csv.DictReader(lines))
    if not rows:
        return None
    counts = {split: sum(row["split"] == split for row in rows) for split in dict.fromkeys(r["split"] for r in rows)}
    images = {f"suspect/{n}": _image(row, f"suspect/{n}", small) for n, row in enumerate(rows[:SHOWN])}
    section = {"count": len(rows), "splits": ", ".join(f"{n:,} in {split}" for split, n in counts.items())}
    return section | {"keys": list(images)}, images


def _image(row: Mapping[str, str], name: str, small: Mapping[str, bytes]) -> dict[str, Any]:
    lines = [(f"label {row['label']}", "bad"), (f"rather {row['suggested']}", "good"), (row["split"], "muted")]
    return {"path": row["path"], "lines": lines, "thumbnail": name if name in small else None, "heat": None}
