"""Atomic writes, locks and digests of files. Imports no torch, because the command line uses it too."""

import errno
import hashlib
import json
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import Any

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # the file system has no locks


class LockedError(Exception):
    """Another process holds the lock; the text names the process and its host, if they are known."""


@contextmanager
def atomic_write(file: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to; at the end flush it to the disk and rename it to `file`.

    Readers see the old content or the new one, never a part of it, even after a crash. After an error the temporary
    file is removed.

    Args:
        file: the file; its folder must exist.
        temporary: a fixed path on the same file system, so that a file left by a killed process is overwritten; only if
            `file` has one writer. By default each writer gets its own path, so that several may write at once.

    Raises:
        OSError: `file` can't be written; its old content is intact.
    """
    temporary = temporary or file.with_name(f"{file.name}.{os.urandom(4).hex()}.tmp")
    try:
        yield temporary
        _flush(temporary)
        rename(temporary, file)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(file)) from None
        raise


def write_safely(file: Path, text: str) -> None:
    """Write a text with `atomic_write`, which raises the same errors."""
    with atomic_write(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def rename(file: Path, new: Path) -> None:
    """Rename a file within its folder, replacing `new`, and flush the folder, so that a power cut can't undo it."""
    os.replace(file, new)
    with suppress(OSError):  # some file systems can't flush a folder
        _flush(new.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(file: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock `file`. The system releases the lock when the process ends, even if it is killed.

    If the file system has no locks, a warning is logged and nothing is locked.

    Args:
        file: the lock file, which is created and kept; `<file>.owner` names the process that holds the lock.
        wait: wait until another process releases the lock.

    Raises:
        LockedError: another process holds it.
    """
    from filelock import FileLock, Timeout  # takes 50 ms to import

    lock, owner = FileLock(file, fallback_to_soft=False), file.with_name(f"{file.name}.owner")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise LockedError(owner.read_text("utf-8") if owner.exists() else "an unknown process") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks (%s): use it from one process at a time", file, error.strerror)
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            owner.unlink()
        lock.release()


def sha256(parts: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of the concatenated parts, 32 bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def short_digest(parts: Iterable[bytes]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the concatenated parts."""
    return sha256(parts).hex()[:16]


def read_json(file: Path, kinds: Mapping[str, type | UnionType], remedy: str) -> dict[str, Any]:
    """Read a JSON file whose content is an object.

    Args:
        file: the file, which must exist.
        kinds: the type of each key that is read; None must be allowed for a key that may be missing.
        remedy: the end of the error's text.

    Raises:
        ValueError: the file is empty, cut short, or a value has another type.
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
