"""Images to predict: one file, a folder with its subfolders, or a list."""

import os
from pathlib import Path

import torch

from fovea.data.decode import EXTENSIONS
from fovea.data.index import Index
from fovea.data.scan import refuse
from fovea.data.strings import Strings


def read_files(source: Path) -> Index:
    """An image, a folder (every image below it, sorted), or a .txt file with one path a line, relative to its folder.

    The targets are zeros: nothing is known. Files that a list names and that are not there stay in it; reading them
    fails like that of any file that is no image.

    Raises:
        ValueError: there is nothing at `source`, no image in it, or a folder that cannot be listed.
    """
    if source.is_dir():
        paths = sorted(_images_below(source))
    elif source.suffix == ".txt" and source.is_file():
        text = source.read_text("utf-8-sig", errors="surrogateescape")  # a file's name may be anything
        lines = [line.strip() for line in text.split("\n")]
        paths = [str(source.parent / line) for line in lines if line]
    elif source.is_file():
        paths = [str(source)]
    else:
        raise ValueError(f"source={source}: there is no such file or folder")
    if not paths:
        raise ValueError(f"source={source}: no image there (known: {' '.join(sorted(EXTENSIONS))})")
    prefix = os.path.join(source if source.is_dir() else source.parent, "")
    return Index(Strings.of(paths, prefix), torch.zeros(len(paths), dtype=torch.long))


def _images_below(folder: Path) -> list[str]:
    found = []
    for parent, _, names in os.walk(folder, onerror=refuse):
        found += [os.path.join(parent, name) for name in names if Path(name).suffix.lower() in EXTENSIONS]
    return found
