"""Which folders of a data root are splits, and whether the folders in a split are classes."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from fovea.data.scan.scan import Listing, is_hidden, refuse
from fovea.data.scan.split_names import Split, split_of

log = logging.getLogger(__name__)

Layout = Literal["auto", "splits", "classes"]
EXPECTED = "train/<class>/<image> (val/ and test/ alike), or <class>/<image>"
ALL_ARE_CLASSES = "data.read.layout=classes makes every folder right in data.root a class, whatever its name"
MOST_WRAPPERS = 3  # folders around the data, such as an archive's own; a link may make them endless
SHOWN = 4  # folders, and names in each


def find_splits(root: Path, layout: Layout, kept: Path | None = None) -> dict[Split, str]:
    """The folder of each split, relative to `root`; {"train": ""} where the classes lie right in `root`.

    Names are known as `split_of` knows them; one that names a split only in part (`seg_train`) must hold folders,
    or all names must. A single folder around the splits is looked into, and the log says so.

    Args:
        layout: auto; splits: there must be splits; classes: there are none.
        kept: a folder that may lie in `root` and holds no data.

    Raises:
        ValueError: no such folder, two folders for one split, or `layout` is splits and none is there.
    """
    if layout not in ("auto", "splits", "classes"):
        raise ValueError(f"data.read.layout={layout}: expected auto, splits or classes")
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"{root} {fault}: expected a folder with {EXPECTED}")
    if layout == "classes":
        return {"train": ""}
    place, folders = _unwrapped(root, layout)
    found = _named(root / place, folders, layout)
    if layout == "splits" and not found:
        raise ValueError(
            f"{root} has no folder named like a split, as data.read.layout=splits demands: {first(folders)}"
        )
    unread = [name for name in folders if name not in found.values() and (root / place / name).absolute() != kept]
    if found and unread:
        log.warning("%s: %d folders beside %s not read: %s", root / place, len(unread), _all(found), first(unread))
    if found and "train" not in found:
        log.warning("%s has %s but no train: it can be evaluated on, and not trained on", root / place, _all(found))
    return {split: os.path.join(place, name) for split, name in found.items()} or {"train": ""}


def inner_split(split: Split, part: str, listing: Listing) -> str:
    """The folder that holds the classes: `seg_train/seg_train` where the split's folder holds that one alone."""
    inner = listing.classes[0] if len(listing.classes) == 1 and not int(listing.counts[0]) else ""
    return os.path.join(part, inner) if part and split_of(inner) == split else part


def check_classes(folder: Path, listing: Listing, part: str) -> None:
    """Warns of class folders that hold folders.

    Raises:
        ValueError: those look like the classes, as they are called the same in several folders, or like copies.
    """
    below, direct = _contents(listing)
    fault = _copy(folder, listing, below) or _same_names(below, direct)
    if fault:
        way = "data.read.layout=splits takes the folders in a split as they are" if part else ALL_ARE_CLASSES
        raise ValueError(f"{folder}: {fault}\n{_tree(below)}\nMake it {EXPECTED}. If it is right: {way}")
    names = {name for inner in below.values() for name in inner}
    if len(names) > 1:
        some = first(list(below))
        log.warning("%s: %d class folders hold folders, whose images count to the class: %s", folder, len(below), some)


def first(names: Sequence[str], count: int = 0) -> str:
    """The first five names; `count` is of how many, if `names` are not all."""
    return ", ".join(names[:5]) + (", ..." if max(count, len(names)) > 5 else "")


def _unwrapped(root: Path, layout: Layout) -> tuple[str, list[str]]:
    """(folder relative to `root`, its folders): that of the splits, if single folders lead to it; else `root`."""
    place, folders = "", _folders(root)
    top = folders
    for _ in range(MOST_WRAPPERS):
        if len(folders) != 1 or _named(root / place, folders, layout):
            break
        place = os.path.join(place, folders[0])
        folders = _folders(root / place)
    if place and _named(root / place, folders, layout):
        log.info("%s: the splits are in %s", root, place)
        return place, folders
    return "", top


def _named(root: Path, folders: Sequence[str], layout: Layout) -> dict[Split, str]:
    found: dict[Split, str] = {}
    in_part = layout == "splits" or (len(folders) > 1 and all(map(split_of, folders)))
    for name in folders:
        split = split_of(name, whole=True) or split_of(name)
        if split is None or not (in_part or split_of(name, whole=True) or _holds_folders(root / name)):
            continue
        if split in found:
            raise ValueError(
                f"{root} has {found[split]} and {name}, both for {split}: keep one of them\nIf they are classes: "
                + ALL_ARE_CLASSES
            )
        found[split] = name
    return found


def _folders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())
    except OSError as error:
        refuse(error)


def _holds_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(not is_hidden(entry.name) and entry.is_dir() for entry in entries)
    except OSError as error:
        refuse(error)


def _contents(listing: Listing) -> tuple[dict[str, list[str]], Counter[str]]:
    """Of each class that has any, the folders right in its folder; and of each class, how many images are."""
    below: dict[str, list[str]] = {}
    direct: Counter[str] = Counter()
    for name, count in zip(listing.folders, listing.counts.tolist(), strict=True):
        top, *deeper = name.split(os.sep, 2)
        if not deeper:
            direct[top] = count
        elif len(deeper) == 1:
            below.setdefault(top, []).append(deeper[0])
    return below, direct


def _copy(folder: Path, listing: Listing, below: Mapping[str, Sequence[str]]) -> str:
    """A class folder that holds the others' names, or its own images again, in words; "" if there is none."""
    classes = set(listing.classes)
    for name, inner in below.items():
        beside = classes - {name}
        if beside and set(inner) - {name} and (set(inner) == beside or (set(inner) <= classes and len(inner) > 1)):
            return f"{name} holds folders of the same names as those beside it: a copy, or a split"
        if name in inner and (shared := _images(listing, name) & _images(listing, os.path.join(name, name))):
            return f"{name} and {os.path.join(name, name)} share {len(shared)} images by name: a copy"
    return ""


def _images(listing: Listing, folder: str) -> set[str]:
    at = list(listing.folders).index(folder)
    start = int(listing.counts[:at].sum())
    return {os.path.basename(path) for path in listing.images[start : start + int(listing.counts[at])]}


def _same_names(below: Mapping[str, Sequence[str]], direct: Mapping[str, int]) -> str:
    """Folders that hold no image, but folders that are called the same in most of them, in words; "" if not so.

    One name alone is no sign: tiny-imagenet has a folder `images` in each class.
    """
    nested = [name for name in below if not direct[name]]
    uses = Counter(inner for name in nested for inner in below[name])
    shared = [inner for inner, count in uses.items() if count > 1]
    if len(nested) > 1 and len(shared) > 1 and 2 * len(shared) >= len(uses):
        return f"{len(nested)} folders hold no image but folders of the same names, which look like the classes"
    if len(direct) == 2 and nested and len(uses) > 1:  # itself, and one class
        return f"{nested[0]} is the only folder, and holds folders that look like the classes"
    return ""


def _tree(below: Mapping[str, Sequence[str]]) -> str:
    lines = [f"  {name}/{{{_some(inner)}}}" for name, inner in below.items()]
    return "\n".join(lines[:SHOWN] + ["  ..."] * (len(lines) > SHOWN))


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:SHOWN], *["..."] * (len(names) > SHOWN)])


def _all(found: Mapping[Split, str]) -> str:
    return ", ".join(found.values())
