"""Images to predict: one file, a folder with its subfolders, or a list."""

import logging
import os
from pathlib import Path

import torch

from fovea.data.index import Index
from fovea.data.pixels.decode import EXTENSIONS
from fovea.data.scan.layout import first
from fovea.data.scan.listing import list_images
from fovea.data.scan.skipped_files import in_words
from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)


def read_files(source: Path) -> Index:
    """An image, a folder (every image below it, sorted), or a .txt file with one path a line, relative to its folder.

    The targets are zeros: nothing is known. A folder is searched as for training: links are followed, hidden files and
    folders and files that are no images by their ending are passed over, with a warning that counts them. A file that
    is named is always tried. Files that a list names and that are not there stay in it; reading them fails like that
    of any file that is no image.

    Raises:
        ValueError: there is nothing at `source`, no image in it, or a folder that cannot be listed or is reached twice
            through a link.
    """
    if source.is_dir():
        paths = _images_below(source)
    elif source.suffix.lower() == ".txt" and source.is_file():
        text = source.read_text("utf-8-sig", errors="surrogateescape")  # a file's name may be anything
        lines = [line.strip() for line in text.split("\n")]
        paths = [str(source.parent / line) for line in lines if line]
    elif source.is_file():
        paths = [str(source)]
    else:
        raise ValueError(f"source={source}: there is no such file or folder")
    if not paths:
        raise ValueError(f"source={source}: the list names no file")
    prefix = os.path.join(source if source.is_dir() else source.parent, "")
    return Index(StringArray.of(paths, prefix), torch.zeros(len(paths), dtype=torch.long))


def _images_below(folder: Path) -> list[str]:
    (listing,) = list_images(folder, [""], EXTENSIONS)
    if not listing.images:
        there = f", only {in_words(listing.endings)}" if listing.endings else ""
        raise ValueError(f"source={folder}: no image there (known: {' '.join(sorted(EXTENSIONS))}){there}")
    if count := listing.passed_over:
        some = first(listing.some, count)
        log.warning("%s: %d files passed over (%s): %s", folder, count, in_words(listing.endings), some)
    return sorted(listing.images)
