"""Reads the images to predict: one file, a folder with its subfolders, or a list of files."""

import logging
import os
from pathlib import Path

import torch

from fovea.data.index import Index
from fovea.data.pixels.decode import EXTENSIONS
from fovea.data.scan.layout import first_names
from fovea.data.scan.listing import list_images
from fovea.data.scan.skipped_files import describe_skipped
from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)


def read_files(source: Path) -> Index:
    """Read an image, a folder (all images below it, sorted), or a .txt file with one path per line.

    Paths in a list are relative to its folder. The targets are zeros, as the labels are unknown. A folder is searched
    as for training: links are followed; hidden files, hidden folders and files without an image's ending are skipped,
    with a warning and their count. A file given by its name or in a list is always used, even if it does not exist:
    reading it then fails like that of any damaged image.

    Raises:
        ValueError: there is nothing at `source`, no image in it, or a folder that cannot be listed or that a link
            leads to a second time.
    """
    if source.is_dir():
        paths = _images_below(source)
    elif source.suffix.lower() == ".txt" and source.is_file():
        text = source.read_text("utf-8-sig", errors="surrogateescape")  # file names may not be UTF-8
        lines = [line.strip() for line in text.split("\n")]
        paths = [str(source.parent / line) for line in lines if line]
    elif source.is_file():
        paths = [str(source)]
    else:
        raise ValueError(f"source={source}: there is no such file or folder")
    if not paths:
        raise ValueError(f"source={source}: the list is empty: write one path per line")
    prefix = os.path.join(source if source.is_dir() else source.parent, "")
    return Index(StringArray.of(paths, prefix), torch.zeros(len(paths), dtype=torch.long))


def _images_below(folder: Path) -> list[str]:
    (listing,) = list_images(folder, [""], EXTENSIONS)
    if not listing.images:
        found = f", found only {describe_skipped(listing.skipped_by_ending)}" if listing.skipped else ""
        raise ValueError(f"source={folder}: no image found (known endings: {' '.join(sorted(EXTENSIONS))}){found}")
    if count := listing.skipped:
        examples, reasons = first_names(listing.skipped_examples, count), describe_skipped(listing.skipped_by_ending)
        log.warning("%s: %d files skipped (%s): %s", folder, count, reasons, examples)
    return sorted(listing.images)
