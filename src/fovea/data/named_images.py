"""Finds the images of data that a file names by their paths."""

import os
from collections.abc import Sequence

import numpy as np

from fovea.data.duplicates import path_hashes
from fovea.data.string_array import StringArray


def find_images(paths: StringArray, names: Sequence[str], root: str | None, in_store: bool) -> dict[int, list[int]]:
    """Return for each named image its position in `paths`, and the positions in `names` of the names that it has.

    A name is absolute, relative to `root`, or as in `paths`; an empty name is no image's. Links are not followed.
    Takes a second for a million images.

    Args:
        paths: of the images; in a store they are relative to no folder.
        names: as written by a person.
        root: the folder of the data, if there is one.
        in_store: whether a store holds the images.
    """
    by_path: dict[str, list[int]] = {}
    for n, name in enumerate(names):
        for path in _possible_paths(name, root, in_store):
            by_path.setdefault(path, []).append(n)
    wanted = np.fromiter(map(hash, by_path), np.int64, len(by_path))
    positions = np.flatnonzero(np.isin(path_hashes(paths), wanted)).tolist()
    found = {position: by_path.get(os.path.abspath(paths[position]), []) for position in positions}
    return {position: numbers for position, numbers in found.items() if numbers}  # drops hash collisions


def _possible_paths(name: str, root: str | None, in_store: bool) -> set[str]:
    """Return the absolute paths that `name` may stand for; the names in a store count as relative paths."""
    if not name:
        return set()
    folder = os.path.abspath(os.path.expanduser(root)) if root else ""
    paths = {os.path.abspath(name)}
    if folder and not os.path.isabs(name):
        paths.add(os.path.abspath(os.path.join(folder, name)))
    if folder and in_store and name.startswith(os.path.join(folder, "")):
        paths.add(os.path.abspath(os.path.relpath(name, folder)))
    return paths
