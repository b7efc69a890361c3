"""Single-label images in class folders: below train/ (and val/, test/), or right in the root."""

import logging
import os
from collections import Counter
from pathlib import Path

import torch

from fovea.data.index import Index, Splits
from fovea.data.pixels.decode import EXTENSIONS
from fovea.data.scan.layout import ALL_ARE_CLASSES, EXPECTED, Layout, check_classes, find_splits, first, inner_split
from fovea.data.scan.listing import list_images
from fovea.data.scan.scan import Listing
from fovea.data.scan.skipped_files import in_words
from fovea.data.scan.split_names import Split

log = logging.getLogger(__name__)


def read_folder(root: Path, cache: str | Path | None = None, layout: Layout = "auto") -> Splits:
    """Lists the images of each class folder; the classes are train's folders, sorted by name.

    Without train they are all splits' folders. The images are torchvision's ImageFolder's, in its order. Hidden folders
    (a dot in front) and `__MACOSX` are no classes. Those, hidden files and files that are no images are passed over,
    and a class without a training image is kept; a warning says so, with the count.

    Args:
        root: the data's folder.
        cache: a folder to keep the listing in, so that the next start only looks whether a folder has changed.
        layout: which of the folders right in `root` are splits. auto: those named like one, and class folders that
            look like splits or copies are refused; splits: those named like one, with any folders in them;
            classes: none.

    Raises:
        ValueError: no such folder, no image, two folders for one split, folders that are doubtful as classes, a class
            that train has not, a folder that cannot be listed or is reached twice through a link.
    """
    parts, listings = _list(root, cache, layout)
    places = {split: root / part for split, part in parts.items()}
    names = {split: _classes(places[split], listing, parts[split]) for split, listing in listings.items()}
    if layout == "auto":
        for split, listing in listings.items():
            check_classes(places[split], listing, parts[split])
    classes = names.get("train") or sorted(set().union(*names.values()))
    index_of = {name: k for k, name in enumerate(classes)}
    indices = {}
    for split, listing in listings.items():
        _check_known(places[split], names[split], places.get("train"), index_of)
        indices[split] = _index(places[split], listing, index_of)
    if "train" in indices:
        _say_empty_classes(places["train"], indices["train"], classes)
    return Splits("multiclass", tuple(classes), indices.get("train"), indices.get("val"), indices.get("test"))


def _list(root: Path, cache: str | Path | None, layout: Layout) -> tuple[dict[Split, str], dict[Split, Listing]]:
    """The folder of each split, relative to `root`, and what it holds."""
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
    if loose := int(listing.counts[0]):
        some = os.path.basename(listing.images[0])
        unlabelled = f" (if they have no labels, rename {folder.name} to unlabelled)." if part else "."
        lines += [f"Its {loose} images, such as {some}, belong into a folder for each class" + unlabelled]
    if part:
        lines += [f"If {folder.name} is a class and no split: {ALL_ARE_CLASSES}"]
    raise ValueError("\n".join(lines))


def _check_known(folder: Path, classes: list[str], train: Path | None, index_of: dict[str, int]) -> None:
    unknown = [name for name in classes if name not in index_of]
    if unknown:
        raise ValueError(
            f"{folder} has {len(unknown)} classes that {train} has not: {first(unknown)}\n"
            "Add training images of them, rename them if only the spelling differs, or take them out."
        )


def _index(folder: Path, listing: Listing, index_of: dict[str, int]) -> Index:
    """All but the images that are in no class, which are passed over like files that are no images."""
    loose = int(listing.counts[0])
    count = loose + listing.passed_over
    some = first([os.path.basename(path) for path in [*listing.images[: min(loose, 5)], *listing.some]], count)
    kinds = in_words(Counter(listing.endings) + Counter({"in no class": loose}))
    if loose == len(listing.images):
        there = f", not {some} ({kinds})" if count else ""
        raise ValueError(f"no image in {folder}: expected <class>/<image> ending in {' '.join(EXTENSIONS)}{there}")
    if count:
        log.warning("%s: %d files passed over (%s): %s", folder, count, kinds, some)
    return Index(listing.images[loose:], listing.labels(index_of)[loose:])


def _say_empty_classes(folder: Path, train: Index, classes: list[str]) -> None:
    counts = torch.bincount(train.targets, minlength=len(classes))  # (K,)
    empty = [name for name, count in zip(classes, counts.tolist(), strict=True) if count == 0]
    if empty:
        share = f"{len(empty)} of {len(classes)}"
        log.warning("%s: %s classes have no image to learn from: %s", folder, share, first(empty))
