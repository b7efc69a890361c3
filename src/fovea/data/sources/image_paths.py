"""Files that a dataset's own files name: whether they stay below a folder, and whether they are there."""

import os
from collections.abc import Sequence
from pathlib import Path

from fovea.data.pixels.decode import EXTENSIONS
from fovea.data.scan.listing import list_images


def leads_out(path: str) -> bool:
    """Whether a path, relative to some folder, is absolute or goes above that folder."""
    return os.path.isabs(path) or os.path.normpath(path).split(os.sep, 1)[0] == ".."


def missing_files(paths: Sequence[str]) -> list[str]:
    """Those of `paths` that are not there, by one listing per folder and not one question per file."""
    held = {folder: frozenset[str]() for folder in {os.path.dirname(path) for path in paths}}
    for folder in filter(os.path.isdir, held):
        held[folder] = frozenset(os.listdir(folder))
    return [path for path in paths if os.path.basename(path) not in held[os.path.dirname(path)]]


def found_below(root: Path, paths: Sequence[str]) -> list[str]:
    """`paths`, each that is not there replaced by the one image of its file name in any folder below `root`.

    Raises:
        ValueError: several images below `root` have the name.
    """
    missing = set(missing_files(paths))
    wanted = {os.path.basename(path) for path in missing}
    places: dict[str, list[str]] = {}
    for image in list_images(root, [""], EXTENSIONS)[0].images:
        if (name := os.path.basename(image)) in wanted:
            places.setdefault(name, []).append(image)
    if doubtful := [f"{name} ({', '.join(some[:2])})" for name, some in places.items() if len(some) > 1]:
        raise ValueError(
            f"{root}: {len(doubtful)} names belong to several images, such as {doubtful[0]}\n"
            "Write the folder of each into the table, or give the folder that is meant as data.root."
        )
    return [places.get(os.path.basename(path), [path])[0] if path in missing else path for path in paths]
