"""ImageNet-1k (ILSVRC2012) as people have it on disk.

Source: Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575; for the devkit's two files, its readme.txt.

Class k is the k-th WordNet id (wnid) in sorted order, as published weights have it. The devkit numbers the same
classes in another order, so an image of the flat validation folder goes number -> ILSVRC2012_ID -> wnid -> k.
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
from fovea.data.scan.skipped_files import in_words

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
    "Set IMAGENET_DIR in the environment or in .env, or give data.root=<folder>."
)
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")  # the original is all .JPEG; people convert their copies


@dataclass(frozen=True)
class Annotations:
    """What the devkit or Kaggle's files say; empty where they are not there.

    Attributes:
        words: wnid -> its first synonym, of every class.
        train_images: how many training images there should be.
        val: validation file name without suffix -> wnid.
    """

    words: Mapping[str, str]
    train_images: int | None
    val: Mapping[str, str]


def read_imagenet(root: Path | None, cache: str | Path | None = None) -> Splits:
    """Read whichever of the three layouts `root` holds; ImageNet's own test set has no labels, so `test` is None.

    The classes are the devkit's (or Kaggle's mapping's) 1,000, also where only some have images; without either
    they are the folders of `train`, named by wnid. A name is the first synonym; the two names that stand for two
    classes each, crane and maillot, get their wnid added. What is missing is counted and logged.

    Args:
        root: the folder with the images and what belongs to them.
        cache: a folder to keep the listing in, so that the next start only looks whether a folder has changed.

    Raises:
        ValueError: no folder is given, none of the layouts is there, a class folder is unknown, a folder cannot be
            listed, or a validation image has no line in the ground truth.
    """
    if root is None:
        raise ValueError(
            "IMAGENET_DIR is not set: there is no folder to read ImageNet from.\n"
            "Set it in the environment or in .env, or give data.root=<folder>."
        )
    parts = _image_folders(root)
    train_folder, val_folder = (root / part for part in parts)
    train_listing, val_listing = list_images(root, parts, SUFFIXES, deep=False, cache=cache)
    known = _annotations(root)
    train_classes = _classes(train_folder, train_listing)
    wnids = sorted(known.words) or train_classes
    if not known.words and len(wnids) != 1000:
        log.warning("No devkit: the classes are train's %s folders; published weights have 1,000", len(wnids))
    index_of = {wnid: k for k, wnid in enumerate(wnids)}
    train = _by_class(train_folder, train_listing, index_of)
    if _classes(val_folder, val_listing):
        val = _by_class(val_folder, val_listing, index_of)
    else:
        val = _flat(val_folder, val_listing, known.val, index_of)
    _say_what_is_missing("train", train, len(wnids), known.train_images)
    _say_what_is_missing("val", val, len(wnids), len(known.val) or None)
    return Splits("multiclass", _unique_names(wnids, known.words), train, val)


def _image_folders(root: Path) -> tuple[str, str]:
    if not root.is_dir():
        raise ValueError(f"ImageNet's folder {str(root)!r} is not there.\n{LAYOUTS}")
    for train, val in IMAGE_FOLDERS:
        if (root / train).is_dir() and (root / val).is_dir():
            return train, val
    held = ", ".join(sorted(os.listdir(root))[:5]) or "nothing"
    raise ValueError(f"{str(root)!r} holds no ImageNet; it holds {held}.\n{LAYOUTS}")


def _annotations(root: Path) -> Annotations:
    """The devkit first, then Kaggle's files, which lie above `root` where that points inside Kaggle's folders."""
    path = root.absolute()
    tops = [root, *(p.parent for p in (path, *path.parents[:2]) if p.name == "ILSVRC")]
    for top in tops:
        if (top / DEVKIT / "meta.mat").is_file():
            return _read_devkit(top / DEVKIT)
    for top in tops:
        words, val = _read_kaggle_words(top), _read_kaggle_solution(top)
        if words or val:
            return Annotations(words or {wnid: wnid for wnid in val.values()}, None, val)
    return Annotations({}, None, {})


def _read_devkit(folder: Path) -> Annotations:
    import scipy.io  # here, since only the devkit needs it

    try:
        synsets = scipy.io.loadmat(folder / "meta.mat", squeeze_me=True)["synsets"]
        leaves = [row for row in synsets if int(row["ILSVRC2012_ID"]) <= 1000]  # the others are inner nodes
    except Exception as error:  # scipy raises anything on a damaged file
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder / 'meta.mat'} is not the devkit's: {type(error).__name__} {reason}") from error
    wnid_of = {int(leaf["ILSVRC2012_ID"]): str(leaf["WNID"]) for leaf in leaves}
    words = {str(leaf["WNID"]): _first_synonym(str(leaf["words"])) for leaf in leaves}
    val = _read_ground_truth(folder / "ILSVRC2012_validation_ground_truth.txt", wnid_of)
    return Annotations(words, sum(int(leaf["num_train_images"]) for leaf in leaves), val)


def _read_ground_truth(file: Path, wnid_of: Mapping[int, str]) -> dict[str, str]:
    """Line n holds the ILSVRC2012_ID of ILSVRC2012_val_<n, eight digits>.JPEG, n from 1."""
    if not file.is_file():
        return {}
    ids = [int(line) for line in file.read_text().split()]
    if unknown := sorted(set(ids) - set(wnid_of)):
        raise ValueError(f"{file}: class ids {unknown[:3]} are not in meta.mat; take both files from one devkit.")
    return {f"ILSVRC2012_val_{number:08d}": wnid_of[i] for number, i in enumerate(ids, start=1)}


def _read_kaggle_words(top: Path) -> dict[str, str]:
    """Lines such as `n01440764 tench, Tinca tinca`."""
    file = top / "LOC_synset_mapping.txt"
    if not file.is_file():
        return {}
    lines = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line]
    return {wnid: _first_synonym(words) for wnid, words in lines}


def _read_kaggle_solution(top: Path) -> dict[str, str]:
    """Rows such as `ILSVRC2012_val_00000236,n01443537 0 0 1 1 `: an image's boxes, all of one class."""
    file = top / "LOC_val_solution.csv"
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
    """Raises ValueError where a sub-folder's name is no wnid."""
    if other := [name for name in listing.classes if not re.fullmatch(r"n\d{8}", name)]:
        raise ValueError(
            f"{folder}: {len(other)} sub-folders are no ImageNet class such as n01440764, first {other[:3]}.\n"
            "Take them out, or use data=folder for classes of your own."
        )
    return listing.classes


def _by_class(folder: Path, listing: Listing, index_of: Mapping[str, int]) -> Index:
    if unknown := [wnid for wnid in listing.classes if wnid not in index_of]:
        raise ValueError(
            f"{folder}: {len(unknown)} class folders are not among the {len(index_of)} classes of the devkit, Kaggle's"
            f" mapping or (without either) train, first {unknown[:3]}.\nTake them out, or check data.root."
        )
    if loose := int(listing.counts[0]):
        raise ValueError(
            f"{folder} holds class folders and also {loose} images outside them, first {listing.images[0]}.\n"
            "Move them into their classes' folders, or keep the flat folder as it came."
        )
    return _index(folder, listing, listing.labels(index_of))


def _flat(folder: Path, listing: Listing, wnid_of: Mapping[str, str], index_of: Mapping[str, int]) -> Index:
    if listing.images and not wnid_of:
        raise ValueError(
            f"{folder} is flat, and there is nothing to say which class an image is of.\nPut"
            f" {DEVKIT}/{{meta.mat,ILSVRC2012_validation_ground_truth.txt}} or LOC_val_solution.csv beside it."
        )
    stems = [os.path.basename(path).partition(".")[0] for path in listing.images]
    if unknown := [stem for stem in stems if stem not in wnid_of]:
        raise ValueError(
            f"{folder}: {len(unknown)} images have no line in the ground truth, first {unknown[:3]}.\n"
            f"Names run from {min(wnid_of)} to {max(wnid_of)}."
        )
    return _index(folder, listing, torch.tensor([index_of[wnid_of[stem]] for stem in stems], dtype=torch.int64))


def _index(folder: Path, listing: Listing, labels: torch.Tensor) -> Index:
    if not listing.images:
        raise ValueError(f"{folder} holds no images.\n{LAYOUTS}")
    if count := listing.passed_over:
        first = folder / listing.some[0]
        kinds = in_words(listing.endings)
        log.warning("%s: %s entries are no images and are passed over (%s), first %s", folder, count, kinds, first)
    return Index(listing.images, labels)


def _say_what_is_missing(split: str, index: Index, classes: int, expected: int | None) -> None:
    seen = len(index.targets.unique())
    if len(index) < (expected or 0):
        log.warning("%s: %s of %s images are there", split, f"{len(index):,}", f"{expected:,}")
    if seen < classes:
        log.warning("%s: %s of %s classes have images", split, f"{seen:,}", f"{classes:,}")
