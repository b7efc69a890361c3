"""The small files of a run's folder: written so that neither a full disk nor a kill spoils them, and read again."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
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


def write_safely(file: Path, text: str) -> None:
    """Beside, flushed to the disk, renamed: whoever reads sees the old file or the new one, whole.

    Raises:
        OSError: naming the file; what was there before is intact.
    """
    beside = file.with_name(f"{file.name}.{os.getpid()}.tmp")  # each rank of a sweep may write the same one
    try:
        with beside.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, file)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(file)) from None
        raise


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
