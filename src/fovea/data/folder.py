"""Single-label images in class folders: below train/ (and val/, test/), or right in the root."""

import logging
import os
from pathlib import Path

import torch

from fovea.data.decode import EXTENSIONS
from fovea.data.index import Index, Splits
from fovea.data.listing import list_images
from fovea.data.scan import Listing, is_hidden, refuse

log = logging.getLogger(__name__)

SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LAYOUT = "train/<class>/<image> (val/ and test/ alike), or <class>/<image>"


def read_folder(root: Path, cache: str | Path | None = None) -> Splits:
    """Lists the images of each class folder; the classes are train's folders, sorted by name.

    The images are torchvision's ImageFolder's, in its order. Hidden folders (a dot in front) and `__MACOSX` are no
    classes. Those, hidden files and files that are no images are passed over, and a class without a training image is
    kept; a warning says so, with the count.

    Args:
        root: the data's folder.
        cache: a folder to keep the listing in, so that the next start only looks whether a folder has changed.

    Raises:
        ValueError: no such folder, no image, fewer than two classes, a class that train has not, a folder
            that cannot be listed or is reached twice through a link.
    """
    parts = _parts(root, cache)
    listings = dict(zip(parts, list_images(root, list(parts.values()), EXTENSIONS, cache=cache), strict=True))
    places = {split: root / part for split, part in parts.items()}
    classes = _classes(places["train"], listings["train"])
    index_of = {name: k for k, name in enumerate(classes)}
    if len(classes) < 2:
        raise ValueError(
            f"{places['train']} has one class folder only, {classes[0]!r}: nothing to tell apart\n"
            f"(expected two classes or more, as {LAYOUT})"
        )
    indices = {}
    for split, listing in listings.items():
        _check_classes(places[split], _classes(places[split], listing), places["train"], index_of)
        indices[split] = _index(places[split], listing, index_of)
    _say_empty_classes(places["train"], indices["train"], classes)
    return Splits("multiclass", tuple(classes), indices["train"], indices.get("val"), indices.get("test"))


def _parts(root: Path, cache: str | Path | None) -> dict[str, str]:
    """The folder in `root` of train, and of val and test if they are there; `root` itself if none of them is."""
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"{root} {fault}: expected a folder with {LAYOUT}")
    folders = _folders(root)
    found: dict[str, str] = {}
    for name in folders:
        split = SPLIT_OF.get(name.lower())
        if split in found:
            raise ValueError(f"{root} has {found[split]} and {name}, both for {split}: keep one of them")
        if split is not None:
            found[split] = name
    if found and "train" not in found:
        raise ValueError(f"{root} has {', '.join(found.values())} but no train: expected {LAYOUT}")
    kept = Path(cache).expanduser().absolute() if cache else None
    unread = [name for name in folders if name not in found.values() and (root / name).absolute() != kept]
    if found and unread:
        log.warning("%s: %d folders beside train not read: %s", root, len(unread), _first(unread))
    return found or {"train": ""}


def _folders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())
    except OSError as error:
        refuse(error)


def _classes(folder: Path, listing: Listing) -> list[str]:
    if not listing.classes:
        raise ValueError(f"no class folder in {folder}: expected {LAYOUT}")
    return listing.classes


def _check_classes(folder: Path, classes: list[str], train: Path, index_of: dict[str, int]) -> None:
    unknown = [name for name in classes if name not in index_of]
    if unknown:
        raise ValueError(
            f"{folder} has {len(unknown)} classes that {train} has not: {_first(unknown)}\n"
            "Add training images of them, rename them if only the spelling differs, or take them out."
        )


def _index(folder: Path, listing: Listing, index_of: dict[str, int]) -> Index:
    """All but the images that are in no class, which are passed over like files that are no images."""
    loose = int(listing.counts[0])
    count = loose + listing.passed_over
    some = _first([os.path.basename(path) for path in [*listing.images[: min(loose, 5)], *listing.some]], count)
    if loose == len(listing.images):
        there = f", not {some}" if count else ""
        raise ValueError(f"no image in {folder}: expected <class>/<image> ending in {' '.join(EXTENSIONS)}{there}")
    if count:
        log.warning("%s: %d files passed over, hidden or no images: %s", folder, count, some)
    return Index(listing.images[loose:], listing.labels(index_of)[loose:])


def _say_empty_classes(folder: Path, train: Index, classes: list[str]) -> None:
    counts = torch.bincount(train.targets, minlength=len(classes))  # (K,)
    empty = [name for name, count in zip(classes, counts.tolist(), strict=True) if count == 0]
    if empty:
        share = f"{len(empty)} of {len(classes)}"
        log.warning("%s: %s classes have no image to learn from: %s", folder, share, _first(empty))


def _first(names: list[str], count: int = 0) -> str:
    return ", ".join(names[:5]) + (", ..." if max(count, len(names)) > 5 else "")
