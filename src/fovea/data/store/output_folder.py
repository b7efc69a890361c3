"""Checks, locks and cleans the folder that a store is packed into."""

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
PACK_FILES = re.compile(
    rf"(part-\d{{5,}}\.(bin|list)|{re.escape(COLUMNS)}|{re.escape(STORE)})(\.[\da-f]+\.tmp)?|{LOCK}(\.owner)?"
)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def prepare(output: Path) -> None:
    """Create the folder if it does not exist.

    Raises:
        ValueError: it contains files that packing did not write.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"output={output} is a file: choose a folder")
    foreign = sorted(name for name in (os.listdir(output) if output.exists() else ()) if not PACK_FILES.fullmatch(name))
    if foreign:
        raise ValueError(
            f"output={output} contains other files ({', '.join(foreign[:3])}): choose an empty or new folder"
        )
    output.mkdir(parents=True, exist_ok=True)


def remove_leftovers(output: Path, parts: Iterable[str]) -> None:
    """Remove all files except those of `parts`; an interrupted packing may have left others."""
    kept = {LOCK, f"{LOCK}.owner", *parts}
    for name in os.listdir(output):
        if name not in kept:
            (output / name).unlink()


def check_space(output: Path, sample: Iterable[str], images: int) -> None:
    """Raise ValueError if `images` files with the average size of the sample do not fit on the disk of `output`."""
    sizes = [os.path.getsize(path) for path in sample if os.path.exists(path)]
    written = sum(file.stat().st_size for file in output.glob("part-*.bin"))
    needed, free = images * sum(sizes) / max(1, len(sizes)) - written, shutil.disk_usage(output).free
    if needed > free:
        raise ValueError(
            f"output={output}: packing needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: use another disk"
        )


@contextmanager
def exclusive(output: Path) -> Iterator[None]:
    """Lock the folder; raise ValueError if another process is packing into it."""
    try:
        with locked(output / LOCK):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows cannot remove an open file
                    (output / LOCK).unlink()
    except LockedError as error:
        raise ValueError(f"output={output}: another process is packing into this folder, {error}") from None


@contextmanager
def report_full_disk(output: Path) -> Iterator[None]:
    """Turn the OSError of a full disk into a ValueError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        reason = os.strerror(error.errno or 0)
        raise ValueError(f"output={output}: {reason}\nFree some space and run this again to continue") from error
