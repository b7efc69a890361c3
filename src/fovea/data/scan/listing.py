"""The images below some folders, listed once and kept in a file, until a folder changes."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fovea.data.column_file import read_columns, write_columns
from fovea.data.scan.scan import CLOCK_TICK, Listing, Search, scan, stamps_of
from fovea.data.string_array import StringArray
from fovea.files import short_digest

log = logging.getLogger(__name__)

FORMAT = 2  # of the file; one more as soon as listings come out otherwise


def list_images(
    root: Path,
    parts: Sequence[str],
    extensions: Sequence[str],
    deep: bool = True,
    cache: str | Path | None = None,
) -> list[Listing]:
    """A listing of each of `parts` (see `Search`), from a file in the folder `cache` where no folder has changed since.

    Each folder is asked when it changed, and no file: adding, removing or renaming one changes the folder it is in.

    Raises:
        ValueError: a folder cannot be listed, or is below a part twice, through a link.
    """
    search = Search(str(root), tuple(parts), tuple(extensions), deep)
    if cache is None:
        return scan(search)[0]
    file = _file(search, Path(cache).expanduser())
    kept = _unchanged(search, file)
    if kept:
        log.info("%s: listing taken from %s", root, file)
        return kept
    listings, settled = scan(search)
    if not settled:
        log.info("%s changed in the last %g s: its listing is not kept", root, CLOCK_TICK / 1e9)
    elif any(file.is_relative_to(os.path.abspath(root / part)) for part in parts):
        log.info("%s is below %s, which it would change: the listing is not kept", file.parent, root)
    else:
        _keep(search, file, listings)
    return listings


def _file(search: Search, cache: Path) -> Path:
    digest = short_digest([json.dumps(_described(search)).encode()])
    return Path(os.path.abspath(cache)) / f"{digest}.safetensors"


def _described(search: Search) -> list[Any]:
    """All that a listing depends on beside the folders, as JSON has it."""
    return [FORMAT, os.path.abspath(search.root), [*search.parts], [*search.extensions], search.deep]


def _unchanged(search: Search, file: Path) -> list[Listing] | None:
    """The listings in `file`; None, and why, where they are not there or not to be trusted."""
    try:
        listings = _read(search, file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.info("%s: listed again, as %s cannot be read: %s", search.root, file, error)
        return None
    for part, listing in zip(search.parts, listings, strict=True):
        changed = (stamps_of(search, part, listing.folders) != listing.stamps).any(dim=1).nonzero().flatten().tolist()
        if changed:
            first = os.path.join(search.root, part, listing.folders[changed[0]])
            log.info("%s: listed again, as %d folders have changed, such as %s", search.root, len(changed), first)
            return None
    return listings


def _read(search: Search, file: Path) -> list[Listing]:
    columns, facts = read_columns(file)
    about = json.loads(facts)
    if about["search"] != _described(search):
        raise ValueError("it is of another folder")
    prefix = os.path.join(search.root, "")
    return [
        Listing(
            StringArray(prefix, columns[f"{k}.images.text"], columns[f"{k}.images.starts"]),
            StringArray("", columns[f"{k}.folders.text"], columns[f"{k}.folders.starts"]),
            columns[f"{k}.counts"],
            columns[f"{k}.stamps"],
            endings,
            some,
        )
        for k, (endings, some) in enumerate(about["passed_over"])
    ]


def _keep(search: Search, file: Path, listings: Sequence[Listing]) -> None:
    columns: dict[str, Tensor] = {}
    for k, listing in enumerate(listings):
        for name, strings in (("images", listing.images), ("folders", listing.folders)):
            columns |= {f"{k}.{name}.text": strings.text, f"{k}.{name}.starts": strings.starts}
        columns |= {f"{k}.counts": listing.counts, f"{k}.stamps": listing.stamps}
    passed_over = [[listing.endings, listing.some] for listing in listings]
    facts = json.dumps({"search": _described(search), "passed_over": passed_over})
    try:
        write_columns(file, columns, facts)
    except OSError as error:
        log.warning("%s: the listing cannot be kept in %s: %s", search.root, file.parent, error.strerror or error)
