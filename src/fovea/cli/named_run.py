"""Finds the run folder that is named by `last`, by a checkpoint or by another file of the run."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fovea.cli.paths import value_of, with_value
from fovea.config.resolvers import PROJECT
from fovea.distributed.rank import is_first
from fovea.runs.checkpoint_names import TO_EVALUATE, TO_RESUME, existing
from fovea.runs.results_file import results_of

LAST = "last"
USABLE = {  # key -> the runs that `last` can stand for
    "run": "run with a checkpoint",
    "resume": "run with a checkpoint to resume from",
    "rerun": "finished run",
}


def with_run_folders(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Replace `last`, a checkpoint or another file of a run by its run folder.

    run=<run folder>/checkpoints/last.ckpt becomes run=<run folder> and ckpt_path=<that file>.

    Args:
        words: overrides that `quoted` returned.
        keys: the keys that name a run folder: `resume`, `rerun` or `run`.

    Raises:
        ValueError: there is no such run, or the key can't be used with its checkpoint.
    """
    return [new for word in words for new in _with_run_folder(word, words, keys)]


def _with_run_folder(word: str, words: Sequence[str], keys: Sequence[str]) -> list[str]:
    key, text = word.partition("=")[0], value_of(word)
    path = Path(text)
    if key not in keys or not text or (path / "config.yaml").is_file():
        return [word]
    if text == LAST:
        return [with_value(key, last_run(key))]
    inner = path if path.name == "checkpoints" else path.parent
    folder = inner.parent if inner.name == "checkpoints" else inner
    if path.suffix == ".ckpt":
        return _of_checkpoint(key, path, folder, words)
    is_file_of_run = path.exists() and (folder / "config.yaml").is_file()
    return [with_value(key, folder)] if is_file_of_run else [word]


def _of_checkpoint(key: str, file: Path, folder: Path, words: Sequence[str]) -> list[str]:
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{key}={file} is a checkpoint without its run folder: type {key}=<run folder>")
    if key == "rerun":
        raise ValueError(f"rerun={file}: a run is repeated from its beginning, so type rerun={folder}")
    if key == "resume" and file.name not in ("new.ckpt", "last.ckpt"):  # previous.ckpt only replaces a damaged one
        raise ValueError(
            f"resume={file}: a run goes on from its last checkpoint, so type resume={folder}\n"
            f"To begin a new run from {file.name}: weights={file} (its weights) or ckpt_path={file} (its whole state)"
        )
    if key == "resume":
        return [with_value(key, folder)]
    if any(word.startswith("ckpt_path=") for word in words):
        raise ValueError(f"run={file} and ckpt_path= both name a checkpoint: type run={folder}, and keep ckpt_path=")
    return [with_value(key, folder), with_value("ckpt_path", file)]


def last_run(key: str) -> Path:
    """Return the run that was started or resumed last, among those that the key can use."""
    runs = Path(os.environ.get("RUNS_DIR") or PROJECT / "runs")
    newest_first = sorted(_runs_below(runs), key=lambda run: (run / "config.yaml").stat().st_mtime_ns, reverse=True)
    folder = next((run for run in newest_first if _can_be_used(key, run)), None)
    if folder is None:
        raise ValueError(f"{key}=last: there is no {USABLE[key]} in {runs} (RUNS_DIR)")
    if is_first():
        skipped = f" ({newest_first[0]} is newer, but no {USABLE[key]})" if folder != newest_first[0] else ""
        job = f", a job of the sweep {folder.parent}" if (folder / "job.json").is_file() else ""
        print(f"{key}=last is {folder}{job}{skipped}", file=sys.stderr, flush=True)
    return folder


def _runs_below(folder: Path) -> Iterator[Path]:
    """Yield the folders that have a config.yaml, without the evaluations below a run."""
    for place, folders, files in os.walk(folder):
        if "config.yaml" in files:
            folders.clear()
            yield Path(place)


def _can_be_used(key: str, run: Path) -> bool:
    if key == "rerun":
        try:
            results = results_of(run)
        except ValueError:  # damaged
            return False
        return results.get("status") == "finished" and "averaged" not in results
    return bool(existing(run, TO_RESUME if key == "resume" else TO_EVALUATE))
