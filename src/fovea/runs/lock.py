"""Locks a run folder, so that only one training at a time uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fovea.files import LockedError, locked


@contextmanager
def lock_folder(folder: Path, first: bool) -> Iterator[None]:
    """Lock the folder for this run; only its `first` rank takes the lock.

    Raises:
        ValueError: another training uses the folder.
    """
    if not first:
        yield
        return
    try:
        with locked(folder / ".lock"):
            yield
    except LockedError as error:
        raise ValueError(f"{folder}: another training runs in this folder ({error}): wait for it, or end it") from None
