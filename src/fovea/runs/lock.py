"""One training at a time in a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fovea.files import LockedError, locked


@contextmanager
def alone_in(folder: Path, first: bool) -> Iterator[None]:
    """Lock the folder for this run; of its processes only the `first` one takes the lock.

    Raises:
        ValueError: another process trains in the folder.
    """
    if not first:
        yield
        return
    try:
        with locked(folder / ".lock"):
            yield
    except LockedError as error:
        raise ValueError(f"{folder}: another training is at work there, {error}") from None
