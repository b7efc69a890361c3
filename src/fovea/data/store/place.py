"""The folder that a store is written to: what may be in it, its lock, and the space on its disk."""

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fovea.data.store.store import COLUMNS, STORE
from fovea.files import LockedError, locked

LOCK = "packing.lock"
OURS = re.compile(
    rf"(part-\d{{5,}}\.(bin|list)|{re.escape(COLUMNS)}|{re.escape(STORE)})(\.[\da-f]+\.tmp)?|{LOCK}(\.owner)?"
)
FULL = (errno.ENOSPC, errno.EDQUOT)


def prepare(output: Path) -> None:
    """Make the folder, if need be.

    Raises:
        ValueError: it holds what no packing has put there.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"output={output} is a file: a store is a folder")
    foreign = sorted(name for name in (os.listdir(output) if output.exists() else ()) if not OURS.fullmatch(name))
    if foreign:
        raise ValueError(f"output={output} holds other files ({', '.join(foreign[:3])}): choose an empty or new folder")
    output.mkdir(parents=True, exist_ok=True)


def forget_all_but(output: Path, parts: Iterable[str]) -> None:
    """Remove what a packing that was stopped left beside the files of these parts."""
    kept = {LOCK, f"{LOCK}.owner", *parts}
    for name in os.listdir(output):
        if name not in kept:
            (output / name).unlink()


def check_space(output: Path, sample: Iterable[str], images: int) -> None:
    """Raises ValueError where `images` files won't fit into `output`, if all are like those of the sample."""
    sizes = [os.path.getsize(path) for path in sample if os.path.exists(path)]
    there = sum(file.stat().st_size for file in output.glob("part-*.bin"))
    missing, free = images * sum(sizes) / max(1, len(sizes)) - there, shutil.disk_usage(output).free
    if missing > free:
        raise ValueError(f"output={output}: {missing / 1e9:.1f} GB are to be written and {free / 1e9:.1f} GB are free")


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Raises ValueError where another process is packing into the folder. The lock ends with its process."""
    try:
        with locked(output / LOCK):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file
                    (output / LOCK).unlink()
    except LockedError as error:
        raise ValueError(f"output={output}: another process is packing into this folder, {error}") from None


@contextmanager
def said_when_full(output: Path) -> Iterator[None]:
    """Raises ValueError where there is no room left."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        said = os.strerror(error.errno or 0)
        raise ValueError(f"output={output}: {said}\nMake room and run this again: it goes on from there") from error
