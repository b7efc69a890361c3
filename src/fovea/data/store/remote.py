"""Files of a store that lies elsewhere (s3://, gs://, https://, ...), copied here when they are first needed.

fsspec knows the places; s3:// and gs:// need `pip install 'fovea[remote]'`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec

from fovea.files import atomic_write, locked

SCHEMES = ("https", "http", "s3", "gs", "gcs", "az", "abfs", "abfss")


def is_remote(location: str) -> bool:
    """Whether fsspec is to open it."""
    return "://" in location


def check_place(url: str) -> None:
    """Raises ValueError where fsspec would do more for a URL than fetch a file: run a command, unpack, chain."""
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES or "::" in url:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValueError(f"{url} is no place for a store: it begins with one of {known}")


def read_remote(url: str) -> bytes:
    """Raises ValueError where there is no such file, or no way to it."""
    places = file_system(url)
    try:
        return places.cat_file(url)
    except Exception as error:  # each place's client has errors of its own
        raise ValueError(f"{url} can't be read: {' '.join(str(error).split()) or type(error).__name__}") from error


def fetch(url: str, file: Path, check: Callable[[Path], None]) -> None:
    """Copy `url` to `file` unless it is there. It is there whole or not at all, and copied once by however many.

    Args:
        check: is given the copy before it gets its name; raises where it is not right.

    Raises:
        ValueError: it can't be copied.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_name(f"{file.name}.lock"), wait=True):
        if file.exists():
            return
        with atomic_write(file, file.with_suffix(".tmp")) as copy:
            try:
                file_system(url).get_file(url, str(copy))
            except Exception as error:
                raise ValueError(f"{url} can't be copied to {file}: {' '.join(str(error).split())}") from error
            check(copy)


def file_system(url: str) -> Any:
    """Raises ValueError where the package for it is missing, or it is none of SCHEMES."""
    check_place(url)
    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ImportError, ValueError) as error:
        raise ValueError(f"{url}: {error}\n(s3:// and gs:// need: pip install 'fovea[remote]')") from error
