"""The small files of a run's folder: written so that neither a full disk nor a kill spoils them, and read again."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import Any

BEGAN = time.time()  # of this process, nearly: torch is imported after this
GO_ON_FROM = ("new.ckpt", "last.ckpt", "previous.ckpt")  # in checkpoints/: a resumed run takes the first that is whole
RESULTS: dict[str, type | UnionType] = {
    "status": str,
    "monitor": str | None,
    "seconds": float | int | None,
    "best": dict | None,
    "test": dict | None,
}


@contextmanager
def replacing(file: Path, beside: Path) -> Iterator[None]:
    """Within, `beside` is written; then it is flushed to the disk and renamed. Readers see the old or the new, whole.

    Raises:
        OSError: naming `file`; what was there before is intact.
    """
    try:
        yield
        _to_disk(beside)
        os.replace(beside, file)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        # torch's zip writer covers up what the system said
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(file)) from None
        raise
    with suppress(OSError):  # not every file system takes it
        _to_disk(file.parent)  # a rename survives a power cut only once its folder is on the disk


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_safely(file: Path, text: str) -> None:
    """All of it or none; raises as `replacing` does."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.tmp")  # each rank of a sweep may write the same one
    with replacing(file, beside):
        beside.write_text(text, encoding="utf-8")


def read_json(file: Path, kinds: Mapping[str, type | UnionType], remedy: str) -> dict[str, Any]:
    """What a JSON file holds.

    Args:
        file: must be there.
        kinds: of the keys that are read; what may be missing may be None.
        remedy: for the error.

    Raises:
        ValueError: it is empty, cut short, or not of these kinds.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"it holds {type(content).__name__}, not keys and values")
        for key, kind in kinds.items():
            if not isinstance(content.get(key), kind):
                raise TypeError(f"{key} is {content.get(key, 'missing')}")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}): {remedy}") from error
    return content


def results_of(folder: Path) -> dict[str, Any]:
    """A run's results.json; {} where there is none.

    Raises:
        ValueError: it is not what a run writes.
    """
    file = folder / "results.json"
    return read_json(file, RESULTS, "take it away to go on without it") if file.exists() else {}
