"""Finds runs below folders, and reads what a leaderboard shows of each."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovea.config import untrusted
from fovea.config.keys import LOOKS_ON, dotted, row, rule
from fovea.files import read_json
from fovea.runs.results_file import results_of

JOB = "job.json"  # of a sweep's job: its number and overrides
FILES = ("results.json", "config.yaml", JOB)  # a folder with one of them is a run's
REPEATED = ("seed", "data.fold")  # repetitions of one experiment differ in these keys only
NOT_BEGUN = "not begun"
EVALUATIONS = "evaluate"  # the folder below a run's with its evaluations


@dataclass(frozen=True)
class Entry:
    """A run, a job of a sweep or an evaluation.

    Attributes:
        folder: its folder.
        name: its folder relative to the one that all runs of the leaderboard have in common.
        overrides: {key: override as it was typed for the training}, without those that only say where it runs.
        config: {dotted key: value} of the keys that a person chooses; empty if the run never began.
        status: finished, running, interrupted, failed, or not begun.
        error: the error's first line if it failed.
        monitor: what chose the best checkpoint.
        mode: min or max, of the monitor.
        best: the monitor's best value; None if there is none, or if it is undefined.
        test: the test figures; None where undefined.
        split: the split that they are of; empty if the run was not tested.
        seconds: the time that the run took; None for an evaluation.
        data: a digest of the images, labels and splits; None for an evaluation, or if the run never read them.
    """

    folder: Path
    name: str
    overrides: dict[str, str]
    config: dict[str, Any]
    status: str
    error: str
    monitor: str
    mode: str | None
    best: float | None
    test: dict[str, float | None]
    split: str
    seconds: float | None
    data: str | None

    @property
    def report(self) -> Path | None:
        """The run's report, if there is one."""
        file = self.folder / "report.html"
        return file if file.is_file() else None


def find(folders: Sequence[Path]) -> list[Entry]:
    """Read the runs in these folders: each is a run's own, a sweep's, or one with such folders below it.

    Evaluations of a run are read only if their own folder is named.

    Raises:
        ValueError: a folder has no run, or a file of a run is damaged.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        below = list(_runs_below(folder.resolve()))
        if not below:
            raise ValueError(f"{folder} has no run: name the folder of a run or of a sweep, or one above them")
        found |= dict.fromkeys(below)
    places = sorted(found, key=_order) if len(folders) == 1 else list(found)
    common = os.path.commonpath([place.parent for place in places])
    return [read(place, os.path.relpath(place, common)) for place in places]


def jobs_of(sweep: Path) -> list[Entry]:
    """Read the jobs of a sweep; [] if none was begun. Raises ValueError if a file is damaged."""
    return find([sweep]) if any(_runs_below(sweep)) else []


def _runs_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        if not set(FILES).isdisjoint(files):
            folders.clear()
            yield Path(place)


def _order(folder: Path) -> tuple[str, int]:
    """Sort a sweep's jobs by their numbers, other runs by their names, which begin with their date."""
    job = folder / JOB
    return (str(folder.parent), read_job(job)["number"]) if job.exists() else (str(folder), -1)


def read(folder: Path, name: str) -> Entry:
    """Read a run; values that its results lack get defaults. Raises ValueError if a file is damaged."""
    results, file = results_of(folder), folder / "config.yaml"
    config = untrusted.read(file) if file.is_file() else {}
    evaluated = folder.parent.name == EVALUATIONS
    run = folder.parent.parent if evaluated else folder
    starts = _starts(run)
    monitor = results.get("monitor") or config.get("monitor") or ""
    return Entry(
        folder=folder,
        name=name,
        overrides=dict(_overrides(run, starts)),
        config={key: value for key, value in dotted(config) if config and _is_chosen(key)},
        status=results.get("status", NOT_BEGUN),
        error=(results.get("error") or "").partition("\n")[0],
        monitor=monitor,
        mode=config.get("mode"),
        best=(results.get("best") or {}).get("value"),
        test=results.get("test") or {},
        split=(results.get("split") or results.get("tested_on") or "test") if results.get("test") else "",
        seconds=results.get("seconds"),
        data=None if evaluated else _data_of(starts),
    )


def read_job(file: Path) -> dict[str, Any]:
    """Return {"number", "overrides"} of a sweep's job. Raises ValueError if the file is damaged."""
    return read_json(file, {"number": int, "overrides": list}, f"remove {file.parent} to run the job again")


def _starts(folder: Path) -> list[dict[str, Any]]:
    file = folder / "provenance.json"
    content = read_json(file, {"starts": list}, "remove the file to continue without it") if file.exists() else {}
    starts: list[dict[str, Any]] = content.get("starts", [])
    return starts


def _data_of(starts: Sequence[Mapping[str, Any]]) -> str | None:
    fingerprint = starts[-1].get("data_fingerprint") if starts else None
    return fingerprint.get("images") if isinstance(fingerprint, dict) else None


def _overrides(folder: Path, starts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (key, override); of a key that was typed again to resume the run, the last one counts."""
    words: Iterable[Any] = [word for start in starts for word in start.get("argv", [])[1:]]
    if (folder / JOB).exists():
        words = read_job(folder / JOB)["overrides"]
    for word in map(str, words):
        key, equals, _ = word.lstrip("+~").partition("=")
        if (equals or word.startswith("~")) and not key.startswith(("-", "hydra.")) and _is_chosen(key):
            yield key, word


def _is_chosen(key: str) -> bool:
    """Whether a person chooses the key's value and the value may change the results."""
    return not any(rule(key, column) for column in ("own", "here", "from_data")) and row(key).resume != LOOKS_ON
