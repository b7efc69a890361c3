"""Reads single-label images from class folders: below train/ (and val/, test/), or directly in the root."""

import logging
import os
from collections import Counter
from pathlib import Path

import torch

from fovea.data.index import Index, Splits
from fovea.data.pixels.decode import EXTENSIONS
from fovea.data.scan.layout import (
    ALL_ARE_CLASSES,
    EXPECTED,
    Layout,
    check_classes,
    find_splits,
    first_names,
    inner_split,
)
from fovea.data.scan.listing import list_images
from fovea.data.scan.scan import Listing
from fovea.data.scan.skipped_files import describe_skipped
from fovea.data.scan.split_names import Split

log = logging.getLogger(__name__)


def read_folder(root: Path, cache: str | Path | None = None, layout: Layout = "auto") -> Splits:
    """List the images of each class folder; the classes are the folders in train, sorted by name.

    Without train, the classes are the folders of all splits. The images and their order are those of torchvision's
    ImageFolder. Hidden files and folders, `__MACOSX` and files that are not images are skipped. A class without a
    training image is kept. Warnings report both with counts.

    Args:
        root: the data's folder.
        cache: a folder to cache the listing in; the next start then only checks whether a folder has changed.
        layout: which of the folders directly in `root` are splits. "auto": the folders named like a split; class
            folders that look like splits or copies are an error. "splits": the folders named like a split, with any
            folders in them. "classes": none.

    Raises:
        ValueError: there is no such folder or no image, two folders are the same split, folders do not look like
            classes, train lacks a class, a folder cannot be listed, or a link leads to the same folder a second time.
    """
    parts, listings = _list(root, cache, layout)
    folders = {split: root / part for split, part in parts.items()}
    names = {split: _classes(folders[split], listing, parts[split]) for split, listing in listings.items()}
    if layout == "auto":
        for split, listing in listings.items():
            check_classes(folders[split], listing, parts[split])
    classes = names.get("train") or sorted(set().union(*names.values()))
    index_of = {name: k for k, name in enumerate(classes)}
    indices = {}
    for split, listing in listings.items():
        _check_known(folders[split], names[split], folders.get("train"), index_of)
        indices[split] = _index(folders[split], listing, index_of)
    if "train" in indices:
        _warn_about_empty_classes(folders["train"], indices["train"], classes)
    return Splits("multiclass", tuple(classes), indices.get("train"), indices.get("val"), indices.get("test"))


def _list(root: Path, cache: str | Path | None, layout: Layout) -> tuple[dict[Split, str], dict[Split, Listing]]:
    """Return the folder of each split, relative to `root`, and its listing."""
    parts = find_splits(root, layout, Path(cache).expanduser().absolute() if cache else None)
    listed = list_images(root, list(parts.values()), EXTENSIONS, cache=cache)
    inner = {split: inner_split(split, parts[split], listing) for split, listing in zip(parts, listed, strict=True)}
    if inner != parts:
        log.info("%s: the classes are in %s", root, ", ".join(inner.values()))
        listed = list_images(root, list(inner.values()), EXTENSIONS, cache=cache)
    return inner, dict(zip(parts, listed, strict=True))


def _classes(folder: Path, listing: Listing, part: str) -> list[str]:
    if listing.classes:
        return listing.classes
    lines = [f"no class folder in {folder}: expected {EXPECTED}"]
    if outside := int(listing.counts[0]):
        example = os.path.basename(listing.images[0])
        hint = f" (if they have no labels, rename {folder.name} to unlabelled)." if part else "."
        lines += [f"Move its {outside} images, such as {example}, into one folder per class" + hint]
    if part:
        lines += [f"If {folder.name} is a class, not a split: {ALL_ARE_CLASSES}"]
    raise ValueError("\n".join(lines))


def _check_known(folder: Path, classes: list[str], train: Path | None, index_of: dict[str, int]) -> None:
    unknown = [name for name in classes if name not in index_of]
    if unknown:
        raise ValueError(
            f"{folder} has {len(unknown)} classes that {train} does not have: {first_names(unknown)}\n"
            "Add training images of them, rename them if only the spelling differs, or remove them."
        )


def _index(folder: Path, listing: Listing, index_of: dict[str, int]) -> Index:
    """Build the index; images outside the class folders are skipped, like files that are not images."""
    outside = int(listing.counts[0])
    count = outside + listing.skipped
    skipped = [*listing.images[: min(outside, 5)], *listing.skipped_examples]
    examples = first_names([os.path.basename(path) for path in skipped], count)
    reasons = describe_skipped(Counter(listing.skipped_by_ending) + Counter({"in no class": outside}))
    if outside == len(listing.images):
        found = f", found only {examples} ({reasons})" if count else ""
        raise ValueError(f"no image in {folder}: expected <class>/<image> ending in {' '.join(EXTENSIONS)}{found}")
    if count:
        log.warning("%s: %d files skipped (%s): %s", folder, count, reasons, examples)
    return Index(listing.images[outside:], listing.labels(index_of)[outside:])


def _warn_about_empty_classes(folder: Path, train: Index, classes: list[str]) -> None:
    counts = torch.bincount(train.targets, minlength=len(classes))  # (K,)
    empty = [name for name, count in zip(classes, counts.tolist(), strict=True) if count == 0]
    if empty:
        share = f"{len(empty)} of {len(classes)}"
        log.warning("%s: %s classes have no training image: %s", folder, share, first_names(empty))
