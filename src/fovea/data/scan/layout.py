"""Finds the split folders below a data root and checks that the folders in a split look like classes."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from fovea.data.scan.scan import Listing, is_hidden, raise_unlistable
from fovea.data.scan.split_names import Split, split_of

log = logging.getLogger(__name__)

Layout = Literal["auto", "splits", "classes"]
EXPECTED = "train/<class>/<image> (the same for val/ and test/), or <class>/<image>"
ALL_ARE_CLASSES = "data.read.layout=classes makes every folder directly in data.root a class, whatever its name"
MAX_WRAPPERS = 3  # nested folders around the data, as an archive adds; limited, because a link may nest forever
SHOWN = 4  # folders in an error message, and names in each of them


def find_splits(root: Path, layout: Layout, ignored: Path | None = None) -> dict[Split, str]:
    """Return the folder of each split, relative to `root`; {"train": ""} if the classes are directly in `root`.

    A folder is a split if `split_of` recognizes its whole name. If only a part of the name is a split's (`seg_train`),
    the folder must contain folders, or all names must be like this. If `root` contains a single folder around the
    splits, that folder is searched and the log says so.

    Args:
        layout: "splits": there must be splits; "classes": there are none; "auto": either.
        ignored: a folder in `root` without data, which no warning mentions.

    Raises:
        ValueError: there is no such folder, two folders are the same split, or `layout` is "splits" and none is found.
    """
    if layout not in ("auto", "splits", "classes"):
        raise ValueError(f"data.read.layout={layout}: expected auto, splits or classes")
    if not root.is_dir():
        reason = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"{root} {reason}: expected a folder with {EXPECTED}")
    if layout == "classes":
        return {"train": ""}
    parent, folders = _unwrap(root, layout)
    found = _split_folders(root / parent, folders, layout)
    if layout == "splits" and not found:
        raise ValueError(
            f"{root} has no folder named like a split, which data.read.layout=splits needs: {first_names(folders)}"
        )
    _warn_about_splits(root / parent, folders, found, ignored)
    return {split: os.path.join(parent, name) for split, name in found.items()} or {"train": ""}


def _warn_about_splits(parent: Path, folders: Sequence[str], found: Mapping[Split, str], ignored: Path | None) -> None:
    unread = [name for name in folders if name not in found.values() and (parent / name).absolute() != ignored]
    names = ", ".join(found.values())
    if found and unread:
        log.warning("%s: %d folders beside %s not read: %s", parent, len(unread), names, first_names(unread))
    if found and "train" not in found:
        log.warning("%s has %s but no train: it can be used for evaluation, not for training", parent, names)


def inner_split(split: Split, part: str, listing: Listing) -> str:
    """Return the folder with the classes: `seg_train/seg_train` if the split's folder contains nothing else."""
    inner = listing.classes[0] if len(listing.classes) == 1 and not int(listing.counts[0]) else ""
    return os.path.join(part, inner) if part and split_of(inner) == split else part


def check_classes(folder: Path, listing: Listing, part: str) -> None:
    """Warn about class folders that contain folders.

    Raises:
        ValueError: the inner folders look like the classes (the same names in several folders), or like a copy.
    """
    subfolders, image_counts = _class_contents(listing)
    problem = _find_copy(listing, subfolders) or _find_nested_classes(subfolders, image_counts)
    if problem:
        override = "data.read.layout=splits accepts any folders in a split" if part else ALL_ARE_CLASSES
        raise ValueError(
            f"{folder}: {problem}\n{_tree(subfolders)}\nChange it to {EXPECTED}. If it is correct: {override}"
        )
    if len({name for inner in subfolders.values() for name in inner}) > 1:
        log.warning(
            "%s: %d class folders contain folders, whose images belong to the class: %s",
            folder,
            len(subfolders),
            first_names(list(subfolders)),
        )


def first_names(names: Sequence[str], count: int = 0) -> str:
    """Join the first five names; give `count`, the total number, if `names` does not contain all."""
    return ", ".join(names[:5]) + (", ..." if max(count, len(names)) > 5 else "")


def _unwrap(root: Path, layout: Layout) -> tuple[str, list[str]]:
    """Follow single folders down to the splits: (their parent relative to `root`, its folders); else `root` itself."""
    parent, folders = "", _folders(root)
    root_folders = folders
    for _ in range(MAX_WRAPPERS):
        if len(folders) != 1 or _split_folders(root / parent, folders, layout):
            break
        parent = os.path.join(parent, folders[0])
        folders = _folders(root / parent)
    if parent and _split_folders(root / parent, folders, layout):
        log.info("%s: the splits are in %s", root, parent)
        return parent, folders
    return "", root_folders


def _split_folders(root: Path, folders: Sequence[str], layout: Layout) -> dict[Split, str]:
    found: dict[Split, str] = {}
    partial_names = layout == "splits" or (len(folders) > 1 and all(map(split_of, folders)))
    for name in folders:
        split = split_of(name, whole=True) or split_of(name)
        if split is None or not (partial_names or split_of(name, whole=True) or _folders(root / name)):
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
        raise_unlistable(error)


def _class_contents(listing: Listing) -> tuple[dict[str, list[str]], Counter[str]]:
    """Return the folders directly in each class folder that has any, and the number of images directly in each."""
    subfolders: dict[str, list[str]] = {}
    image_counts: Counter[str] = Counter()
    for name, count in zip(listing.folders, listing.counts.tolist(), strict=True):
        top, *deeper = name.split(os.sep, 2)
        if not deeper:
            image_counts[top] = count
        elif len(deeper) == 1:
            subfolders.setdefault(top, []).append(deeper[0])
    return subfolders, image_counts


def _find_copy(listing: Listing, subfolders: Mapping[str, Sequence[str]]) -> str:
    """Describe a class folder that contains the names of the other classes or its own images again; "" if none does."""
    classes = set(listing.classes)
    for name, inner in subfolders.items():
        others = classes - {name}
        if others and set(inner) - {name} and (set(inner) == others or (set(inner) <= classes and len(inner) > 1)):
            return f"{name} contains folders with the same names as the folders beside it: a copy, or a split"
        if name in inner and (shared := _images(listing, name) & _images(listing, os.path.join(name, name))):
            return f"{name} and {os.path.join(name, name)} share {len(shared)} image names: a copy"
    return ""


def _images(listing: Listing, folder: str) -> set[str]:
    position = list(listing.folders).index(folder)
    start = int(listing.counts[:position].sum())
    return {os.path.basename(path) for path in listing.images[start : start + int(listing.counts[position])]}


def _find_nested_classes(subfolders: Mapping[str, Sequence[str]], image_counts: Mapping[str, int]) -> str:
    """Describe folders without images whose subfolders have mostly the same names; "" if there are none.

    A single shared name does not count: tiny-imagenet has a folder `images` in each class.
    """
    nested = [name for name in subfolders if not image_counts[name]]
    uses = Counter(inner for name in nested for inner in subfolders[name])
    shared = [inner for inner, count in uses.items() if count > 1]
    if len(nested) > 1 and len(shared) > 1 and 2 * len(shared) >= len(uses):
        return f"{len(nested)} folders contain no images but folders with the same names, which look like the classes"
    if len(image_counts) == 2 and nested and len(uses) > 1:  # the split's folder itself, and one class
        return f"{nested[0]} is the only folder and contains folders that look like the classes"
    return ""


def _tree(subfolders: Mapping[str, Sequence[str]]) -> str:
    lines = [f"  {name}/{{{', '.join(_shorten(inner))}}}" for name, inner in subfolders.items()]
    return "\n".join(lines[:SHOWN] + ["  ..."] * (len(lines) > SHOWN))


def _shorten(names: Sequence[str]) -> list[str]:
    return [*names[:SHOWN], *["..."] * (len(names) > SHOWN)]
