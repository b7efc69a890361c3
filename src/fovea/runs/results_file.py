"""results.json of a run folder. Imports no torch: the command line reads it too."""

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
    """The run's results; {} before it has any.

    Raises:
        ValueError: results.json is not what a run writes.
    """
    file = folder / "results.json"
    return read_json(file, KINDS, "remove it to go on without it") if file.exists() else {}
