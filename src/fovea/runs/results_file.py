"""Reads a run folder's results.json. Imports no torch, because the command line uses it too."""

from pathlib import Path
from types import UnionType
from typing import Any

from fovea.files import read_json

KINDS: dict[str, type | UnionType] = {
    "status": str,
    "monitor": str | None,
    "seconds": float | int | None,
    "best": dict | None,
    "test": dict | None,
}


def results_of(folder: Path) -> dict[str, Any]:
    """Return the run's results; {} if there is no results.json yet.

    Raises:
        ValueError: results.json is damaged.
    """
    file = folder / "results.json"
    return read_json(file, KINDS, "remove the file to continue without it") if file.exists() else {}
