"""Downloads the files of a remote store (s3://, gs://, https://, ...) when they are first needed.

Uses fsspec; s3:// and gs:// need `pip install 'fovea[remote]'`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec

from fovea.files import atomic_write, locked

SCHEMES = ("https", "http", "s3", "gs", "gcs", "az", "abfs", "abfss")


def is_remote(location: str) -> bool:
    """Return whether the location is a URL."""
    return "://" in location


def check_url(url: str) -> None:
    """Raise ValueError for a URL with which fsspec might do more than download, such as run a command or unpack."""
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES or "::" in url:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValueError(f"{url} cannot be a store: its URL must begin with one of {known}")


def read_remote(url: str) -> bytes:
    """Return the content of a remote file; raise ValueError if it does not exist or cannot be read."""
    remote = file_system(url)
    try:
        return remote.cat_file(url)
    except Exception as error:  # each protocol's client raises its own types
        raise ValueError(f"{url} cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error


def fetch(url: str, file: Path, check: Callable[[Path], None]) -> None:
    """Download `url` to `file` atomically if it does not exist; of several processes, only one downloads.

    Args:
        check: called with the downloaded temporary file; raises an error if it is damaged.

    Raises:
        ValueError: the download failed.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_name(f"{file.name}.lock"), wait=True):
        if file.exists():
            return
        with atomic_write(file, file.with_suffix(".tmp")) as copy:
            try:
                file_system(url).get_file(url, str(copy))
            except Exception as error:
                raise ValueError(f"{url} cannot be copied to {file}: {' '.join(str(error).split())}") from error
            check(copy)


def file_system(url: str) -> Any:
    """Return fsspec's file system for the URL; raise ValueError if its package is missing or its scheme not allowed."""
    check_url(url)
    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ImportError, ValueError) as error:
        raise ValueError(f"{url}: {error}\n(s3:// and gs:// need: pip install 'fovea[remote]')") from error
