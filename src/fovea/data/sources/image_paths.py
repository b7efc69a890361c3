"""Checks the image paths that a dataset's annotation files contain: inside their folder, and existing."""

import os
from collections.abc import Sequence
from pathlib import Path

from fovea.data.pixels.decode import EXTENSIONS
from fovea.data.scan.listing import list_images


def leaves_folder(path: str) -> bool:
    """Return whether a path that should be relative to a folder is absolute or goes above that folder."""
    return os.path.isabs(path) or os.path.normpath(path).split(os.sep, 1)[0] == ".."


def missing_files(paths: Sequence[str]) -> list[str]:
    """Return the paths that do not exist; lists each folder once, which is faster than a check per file."""
    names = {folder: frozenset[str]() for folder in {os.path.dirname(path) for path in paths}}
    for folder in filter(os.path.isdir, names):
        names[folder] = frozenset(os.listdir(folder))
    return [path for path in paths if os.path.basename(path) not in names[os.path.dirname(path)]]


def locate_below(root: Path, paths: Sequence[str]) -> list[str]:
    """Replace each path that does not exist by the image with the same file name in any folder below `root`.

    Raises:
        ValueError: several images below `root` have that name.
    """
    missing = set(missing_files(paths))
    missing_names = {os.path.basename(path) for path in missing}
    found: dict[str, list[str]] = {}
    for image in list_images(root, [""], EXTENSIONS)[0].images:
        if (name := os.path.basename(image)) in missing_names:
            found.setdefault(name, []).append(image)
    if ambiguous := [f"{name} ({', '.join(images[:2])})" for name, images in found.items() if len(images) > 1]:
        raise ValueError(
            f"{root}: {len(ambiguous)} names belong to several images, such as {ambiguous[0]}\n"
            "Write the folder of each image into the table, or choose a narrower data.root."
        )
    return [found.get(os.path.basename(path), [path])[0] if path in missing else path for path in paths]
