"""Lists the images below folders and caches the list in a file until a folder changes."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fovea.data.column_file import read_columns, write_columns
from fovea.data.scan.scan import CLOCK_TICK, Listing, Search, scan, timestamps
from fovea.data.string_array import StringArray
from fovea.files import short_digest

log = logging.getLogger(__name__)

FORMAT = 2  # version of the cache file; increase it when the same folders would give another listing


def list_images(
    root: Path,
    parts: Sequence[str],
    extensions: Sequence[str],
    deep: bool = True,
    cache: str | Path | None = None,
) -> list[Listing]:
    """Return a listing of each of `parts` (see `Search`), from the folder `cache` if no folder has changed since.

    Only the modification times of folders are compared, not those of files: adding, removing or renaming a file changes
    its folder's.

    Raises:
        ValueError: a folder cannot be listed, or a link leads to the same folder a second time.
    """
    search = Search(str(root), tuple(parts), tuple(extensions), deep)
    if cache is None:
        return scan(search)[0]
    file = _cache_file(search, Path(cache).expanduser())
    cached = _read_if_unchanged(search, file)
    if cached:
        log.info("%s: listing read from the cache %s", root, file)
        return cached
    listings, settled = scan(search)
    if not settled:
        log.info("%s changed in the last %g s: its listing is not cached", root, CLOCK_TICK / 1e9)
    elif any(file.is_relative_to(os.path.abspath(root / part)) for part in parts):
        log.info("%s is below %s and writing it would change that folder: not cached", file.parent, root)
    else:
        _write(search, file, listings)
    return listings


def _cache_file(search: Search, cache: Path) -> Path:
    digest = short_digest([json.dumps(_cache_key(search)).encode()])
    return Path(os.path.abspath(cache)) / f"{digest}.safetensors"


def _cache_key(search: Search) -> list[Any]:
    """Return, as JSON types, everything a listing depends on except the folders' contents."""
    return [FORMAT, os.path.abspath(search.root), [*search.parts], [*search.extensions], search.deep]


def _read_if_unchanged(search: Search, file: Path) -> list[Listing] | None:
    """Return the cached listings; None if there are none, the file is damaged or a folder changed (logged)."""
    try:
        listings = _read(search, file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.info("%s: listed again, because %s cannot be read: %s", search.root, file, error)
        return None
    for part, listing in zip(search.parts, listings, strict=True):
        changed = (timestamps(search, part, listing.folders) != listing.stamps).any(dim=1).nonzero().flatten().tolist()
        if changed:
            example = os.path.join(search.root, part, listing.folders[changed[0]])
            log.info("%s: listed again, because %d folders changed, such as %s", search.root, len(changed), example)
            return None
    return listings


def _read(search: Search, file: Path) -> list[Listing]:
    columns, text = read_columns(file)
    metadata = json.loads(text)
    if metadata["search"] != _cache_key(search):
        raise ValueError("it belongs to another folder")
    prefix = os.path.join(search.root, "")
    return [
        Listing(
            StringArray(prefix, columns[f"{k}.images.text"], columns[f"{k}.images.starts"]),
            StringArray("", columns[f"{k}.folders.text"], columns[f"{k}.folders.starts"]),
            columns[f"{k}.counts"],
            columns[f"{k}.stamps"],
            endings,
            examples,
        )
        for k, (endings, examples) in enumerate(metadata["passed_over"])
    ]


def _write(search: Search, file: Path, listings: Sequence[Listing]) -> None:
    columns: dict[str, Tensor] = {}
    for k, listing in enumerate(listings):
        for name, strings in (("images", listing.images), ("folders", listing.folders)):
            columns |= {f"{k}.{name}.text": strings.text, f"{k}.{name}.starts": strings.starts}
        columns |= {f"{k}.counts": listing.counts, f"{k}.stamps": listing.stamps}
    skipped = [[listing.skipped_by_ending, listing.skipped_examples] for listing in listings]
    metadata = json.dumps({"search": _cache_key(search), "passed_over": skipped})
    try:
        write_columns(file, columns, metadata)
    except OSError as error:
        log.warning("%s: the listing cannot be cached in %s: %s", search.root, file.parent, error.strerror or error)
