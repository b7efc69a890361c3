"""Reads ImageNet-1k (ILSVRC2012) in its common folder layouts.

Source: Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575; for the devkit's two files, its readme.txt.

Class k is the k-th WordNet id (wnid) in sorted order, as in published weights. The devkit numbers the classes in
another order, so an image of the flat validation folder is mapped number -> ILSVRC2012_ID -> wnid -> k.
"""

import csv
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fovea.data.index import Index, Splits
from fovea.data.scan.listing import list_images
from fovea.data.scan.scan import Listing
from fovea.data.scan.skipped_files import describe_skipped

log = logging.getLogger(__name__)

IMAGE_FOLDERS = (  # train, validation
    ("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
    ("train", "val"),
    ("ILSVRC/Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/val"),
    ("Data/CLS-LOC/train", "Data/CLS-LOC/val"),
    ("CLS-LOC/train", "CLS-LOC/val"),
)
DEVKIT = "ILSVRC2012_devkit_t12/data"
LAYOUTS = (
    "Looked for: train/<wnid> + val/<wnid>; ILSVRC2012_img_train/<wnid> + ILSVRC2012_img_val (or train + val)"
    " + ILSVRC2012_devkit_t12/data; Kaggle's ILSVRC/Data/CLS-LOC + LOC_val_solution.csv.\n"
    "Set IMAGENET_DIR in the environment or in .env, or data.root=<folder>."
)
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")  # the original files are .JPEG; converted copies are common


@dataclass(frozen=True)
class Annotations:
    """The content of the devkit's or Kaggle's files; empty if there are none.

    Attributes:
        words: wnid -> the class name (its first synonym).
        train_images: the expected number of training images.
        val: validation file name without suffix -> wnid.
    """

    words: Mapping[str, str]
    train_images: int | None
    val: Mapping[str, str]


def read_imagenet(root: Path | None, cache: str | Path | None = None) -> Splits:
    """Read any of the three layouts; `test` is None, as ImageNet's test set has no public labels.

    The classes are the 1,000 of the devkit (or of Kaggle's mapping), even if only some have images; without either,
    they are the folders of `train`, named by wnid. A class name is the first synonym; crane and maillot, which are two
    classes each, get their wnid added. Missing images and classes are counted and logged.

    Args:
        root: the folder with the images and the annotation files.
        cache: a folder to cache the listing in; the next start then only checks whether a folder has changed.

    Raises:
        ValueError: no folder is given, it has none of the layouts, a class folder is unknown, a folder cannot be
            listed, or a validation image has no line in the ground truth.
    """
    if root is None:
        raise ValueError(
            "IMAGENET_DIR is not set: there is no folder to read ImageNet from.\n"
            "Set it in the environment or in .env, or set data.root=<folder>."
        )
    parts = _image_folders(root)
    train_folder, val_folder = (root / part for part in parts)
    train_listing, val_listing = list_images(root, parts, SUFFIXES, deep=False, cache=cache)
    annotations = _annotations(root)
    wnids = sorted(annotations.words) or _classes(train_folder, train_listing)
    if not annotations.words and len(wnids) != 1000:
        log.warning("No devkit: the classes are train's %s folders; published weights have 1,000", len(wnids))
    index_of = {wnid: k for k, wnid in enumerate(wnids)}
    train = _by_class(train_folder, train_listing, index_of)
    if _classes(val_folder, val_listing):
        val = _by_class(val_folder, val_listing, index_of)
    else:
        val = _flat(val_folder, val_listing, annotations.val, index_of)
    _warn_about_missing("train", train, len(wnids), annotations.train_images)
    _warn_about_missing("val", val, len(wnids), len(annotations.val) or None)
    return Splits("multiclass", _unique_names(wnids, annotations.words), train, val)


def _image_folders(root: Path) -> tuple[str, str]:
    if not root.is_dir():
        raise ValueError(f"ImageNet's folder {str(root)!r} does not exist.\n{LAYOUTS}")
    for train, val in IMAGE_FOLDERS:
        if (root / train).is_dir() and (root / val).is_dir():
            return train, val
    content = ", ".join(sorted(os.listdir(root))[:5]) or "nothing"
    raise ValueError(f"{str(root)!r} does not contain ImageNet; it contains {content}.\n{LAYOUTS}")


def _annotations(root: Path) -> Annotations:
    """Read the devkit, else Kaggle's files; those are above `root` if it is a folder inside Kaggle's layout."""
    path = root.absolute()
    candidates = [root, *(p.parent for p in (path, *path.parents[:2]) if p.name == "ILSVRC")]
    for folder in candidates:
        if (folder / DEVKIT / "meta.mat").is_file():
            return _read_devkit(folder / DEVKIT)
    for folder in candidates:
        words, val = _read_kaggle_words(folder), _read_kaggle_solution(folder)
        if words or val:
            return Annotations(words or {wnid: wnid for wnid in val.values()}, None, val)
    return Annotations({}, None, {})


def _read_devkit(folder: Path) -> Annotations:
    import scipy.io  # imported here, because only the devkit needs it

    try:
        synsets = scipy.io.loadmat(folder / "meta.mat", squeeze_me=True)["synsets"]
        leaves = [row for row in synsets if int(row["ILSVRC2012_ID"]) <= 1000]  # the others are inner nodes
    except Exception as error:  # scipy raises many types on a damaged file
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder / 'meta.mat'} cannot be read: {type(error).__name__} {reason}") from error
    wnid_of = {int(leaf["ILSVRC2012_ID"]): str(leaf["WNID"]) for leaf in leaves}
    words = {str(leaf["WNID"]): _first_synonym(str(leaf["words"])) for leaf in leaves}
    val = _read_ground_truth(folder / "ILSVRC2012_validation_ground_truth.txt", wnid_of)
    return Annotations(words, sum(int(leaf["num_train_images"]) for leaf in leaves), val)


def _read_ground_truth(file: Path, wnid_of: Mapping[int, str]) -> dict[str, str]:
    """Read line n (from 1) as the ILSVRC2012_ID of ILSVRC2012_val_<n, eight digits>.JPEG."""
    if not file.is_file():
        return {}
    ids = [int(line) for line in file.read_text().split()]
    if unknown := sorted(set(ids) - set(wnid_of)):
        raise ValueError(f"{file}: class ids {unknown[:3]} are not in meta.mat; take both files from one devkit.")
    return {f"ILSVRC2012_val_{number:08d}": wnid_of[i] for number, i in enumerate(ids, start=1)}


def _read_kaggle_words(folder: Path) -> dict[str, str]:
    """Read lines such as `n01440764 tench, Tinca tinca`."""
    file = folder / "LOC_synset_mapping.txt"
    if not file.is_file():
        return {}
    lines = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line]
    return {wnid: _first_synonym(words) for wnid, words in lines}


def _read_kaggle_solution(folder: Path) -> dict[str, str]:
    """Read rows such as `ILSVRC2012_val_00000236,n01443537 0 0 1 1 `: an image's boxes, all of one class."""
    file = folder / "LOC_val_solution.csv"
    if not file.is_file():
        return {}
    with open(file, newline="", encoding="utf-8") as stream:
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(stream)}


def _first_synonym(words: str) -> str:
    return words.split(",")[0].strip()


def _unique_names(wnids: Sequence[str], words: Mapping[str, str]) -> tuple[str, ...]:
    names = [words.get(wnid, wnid) for wnid in wnids]
    uses = Counter(names)
    return tuple(name if uses[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True))


def _classes(folder: Path, listing: Listing) -> list[str]:
    """Return the class folders; raise ValueError if one is not named by a wnid."""
    if other := [name for name in listing.classes if not re.fullmatch(r"n\d{8}", name)]:
        raise ValueError(
            f"{folder}: {len(other)} folders are not ImageNet classes such as n01440764, first {other[:3]}.\n"
            "Remove them, or use data=folder for your own classes."
        )
    return listing.classes


def _by_class(folder: Path, listing: Listing, index_of: Mapping[str, int]) -> Index:
    if unknown := [wnid for wnid in listing.classes if wnid not in index_of]:
        raise ValueError(
            f"{folder}: {len(unknown)} class folders are not among the {len(index_of)} classes of the devkit, Kaggle's"
            f" mapping or (without either) train, first {unknown[:3]}.\nRemove them, or check data.root."
        )
    if outside := int(listing.counts[0]):
        raise ValueError(
            f"{folder} contains class folders and also {outside} images outside of them, first {listing.images[0]}.\n"
            "Move these into their class folders, or restore the original flat folder."
        )
    return _index(folder, listing, listing.labels(index_of))


def _flat(folder: Path, listing: Listing, wnid_of: Mapping[str, str], index_of: Mapping[str, int]) -> Index:
    if listing.images and not wnid_of:
        raise ValueError(
            f"{folder} has no class folders, and there is no file with the images' classes.\nPut"
            f" {DEVKIT}/{{meta.mat,ILSVRC2012_validation_ground_truth.txt}} or LOC_val_solution.csv beside it."
        )
    stems = [os.path.basename(path).partition(".")[0] for path in listing.images]
    if unknown := [stem for stem in stems if stem not in wnid_of]:
        raise ValueError(
            f"{folder}: {len(unknown)} images have no line in the ground truth, first {unknown[:3]}.\n"
            f"Its names run from {min(wnid_of)} to {max(wnid_of)}: remove the other images."
        )
    return _index(folder, listing, torch.tensor([index_of[wnid_of[stem]] for stem in stems], dtype=torch.int64))


def _index(folder: Path, listing: Listing, labels: torch.Tensor) -> Index:
    if not listing.images:
        raise ValueError(f"{folder} contains no images.\n{LAYOUTS}")
    if count := listing.skipped:
        first = folder / listing.skipped_examples[0]
        reasons = describe_skipped(listing.skipped_by_ending)
        log.warning("%s: %d files skipped (%s), first %s", folder, count, reasons, first)
    return Index(listing.images, labels)


def _warn_about_missing(split: str, index: Index, classes: int, expected: int | None) -> None:
    found = len(index.targets.unique())
    if len(index) < (expected or 0):
        log.warning("%s: only %s of %s images exist", split, f"{len(index):,}", f"{expected:,}")
    if found < classes:
        log.warning("%s: only %s of %s classes have images", split, f"{found:,}", f"{classes:,}")
