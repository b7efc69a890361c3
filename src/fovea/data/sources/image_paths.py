"""Checks the image paths that a dataset's annotation files contain: inside their folder, and existing."""

import logging
import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from fovea.data.pixels.decode import EXTENSIONS
from fovea.data.scan.listing import list_images

log = logging.getLogger(__name__)


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

    If a path has a folder below `root`, the image's folder must have the same name. Of several such images the one with
    the most equal folders is meant. The log has the number of replaced paths.

    Args:
        root: the folder of the data.
        paths: below `root`, or absolute paths of another machine.

    Raises:
        ValueError: several images are equally likely, or images with the name are in other folders only.
    """
    missing = dict.fromkeys(missing_files(paths))
    images: dict[str, list[str]] = {os.path.basename(path): [] for path in missing}
    for image in list_images(root, [""], EXTENSIONS)[0].images:
        if (name := os.path.basename(image)) in images:
            images[name].append(image)
    found, ambiguous, elsewhere = dict[str, str](), list[str](), list[str]()
    for path in missing:
        written = path.removeprefix(os.path.join(root, "")).split(os.sep)
        equal = {image: _equal_end(written, image.split(os.sep)) for image in images[written[-1]]}
        most = max(equal.values(), default=0)
        likely = [image for image, number in equal.items() if number == most]
        if likely and most < min(2, len(written)):
            elsewhere.append(f"{path} (only {likely[0]} has this name)")
        elif len(likely) > 1:
            ambiguous.append(f"{written[-1]} ({', '.join(likely[:2])})")
        elif likely:
            found[path] = likely[0]
    if ambiguous:
        raise ValueError(
            f"{root}: {len(ambiguous)} names belong to several images, such as {ambiguous[0]}\n"
            "Write the folder of each image into the table, or choose a narrower data.root."
        )
    if elsewhere:
        raise ValueError(
            f"{root}: {len(elsewhere)} images are in other folders than the table says, such as {elsewhere[0]}\n"
            "If they are the same images, write the names without folders into the table."
        )
    if found:
        log.info(
            "%d of %d images were found by name, such as %s: %s", len(found), len(paths), *next(iter(found.items()))
        )
    return [found.get(path, path) for path in paths]


def _equal_end(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of equal parts at the end of two paths."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
