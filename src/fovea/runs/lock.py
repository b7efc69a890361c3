"""One training at a time in a run's folder."""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def alone_in(folder: Path, first: bool) -> Iterator[None]:
    """Of a run's processes only the first one asks. A lock of POSIX: a process that is killed leaves it at once.

    Raises:
        ValueError: another process trains in that folder.
    """
    if not first:
        yield
        return
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                log.warning(
                    "%s: this file system has no locks (%s): train there once at a time", folder, error.strerror
                )
                yield
                return
            file.seek(0)
            raise ValueError(f"{folder}: another training is at work there, {file.read()}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
