"""PASCAL VOC as a multi-label set: which of the 20 classes an image holds.

Source: Everingham et al. 2010, http://host.robots.ox.ac.uk/pascal/VOC. As in its classification task, an object
marked difficult is not counted: a class with no other object in the image is unknown there.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import torch
from torch import Tensor

from fovea.data.index import Index, Splits
from fovea.data.multilabel_csv import leads_out, missing_files
from fovea.data.strings import Strings

log = logging.getLogger(__name__)

CLASS_NAMES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def read_voc(
    root: Path,
    year: str = "2007",
    train_list: str = "train",
    val_list: str | None = "val",
    test_list: str | None = "test",
) -> Splits:
    """Read VOCdevkit/VOC<year> under `root`; `root` may also be the VOCdevkit or the VOC<year> folder.

    Args:
        root: folder that holds the devkit.
        year: 2007 is the last one whose test set is annotated.
        train_list: ImageSets/Main/<train_list>.txt names the images to train on, such as train or trainval.
        val_list: the same for validation; None leaves it out.
        test_list: the same for testing; None, or `test` without such a file, leaves it out.

    Raises:
        ValueError: a folder, list, image or annotation is not there, an image is in two splits, or an annotation
            is not VOC's.
    """
    folder = _find_folder(root, year)
    lists = {"train": train_list, "val": val_list, "test": test_list}
    if test_list == "test" and not _list_file(folder, test_list).is_file():
        log.info("%s has no ImageSets/Main/test.txt, which comes in an archive of its own: no test split", folder)
        lists["test"] = None
    ids = {split: _read_list(folder, name) for split, name in lists.items() if name is not None}
    _check_disjoint(folder, ids)
    prefix = os.path.join(root, "")
    indices = {split: _read_split(folder, split, names, prefix) for split, names in ids.items()}
    return Splits("multilabel", CLASS_NAMES, indices["train"], indices.get("val"), indices.get("test"))


def _find_folder(root: Path, year: str) -> Path:
    name = f"VOC{year}"
    for folder in (root / "VOCdevkit" / name, root / name, root):
        other_year = re.fullmatch(r"VOC\d{4}", folder.name) and folder.name != name
        if (folder / "ImageSets" / "Main").is_dir() and not other_year:
            return folder
    raise ValueError(
        f"{str(root)!r} holds no VOCdevkit/{name} with ImageSets/Main, JPEGImages and Annotations.\n"
        "Give data.root=<the folder VOCdevkit is in> and data.read.year=<the year after VOC>."
    )


def _list_file(folder: Path, name: str) -> Path:
    return folder / "ImageSets" / "Main" / f"{name}.txt"


def _read_list(folder: Path, name: str) -> list[str]:
    file = _list_file(folder, name)
    if not file.is_file():
        raise ValueError(f"{file} is not there. Name another list with data.read.train_list, val_list or test_list.")
    try:
        ids = file.read_text("utf-8").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no list of names: {error}.") from error
    if not ids:
        raise ValueError(f"{file} names no images.")
    if strange := [name for name in ids if leads_out(name)]:
        raise ValueError(f"{file}: {strange[0]!r} leads out of JPEGImages.")
    return ids


def _check_disjoint(folder: Path, ids: Mapping[str, Sequence[str]]) -> None:
    seen: dict[str, str] = {}
    for split, names in ids.items():
        if shared := [name for name in names if name in seen]:
            raise ValueError(
                f"{folder}: {len(shared)} images of {split} are in {seen[shared[0]]} too, first {shared[:3]}.\n"
                "Give lists that share no image: with data.read.train_list=trainval, data.read.val_list=null."
            )
        seen.update(dict.fromkeys(names, split))


def _read_split(folder: Path, split: str, ids: Sequence[str], prefix: str) -> Index:
    paths = [str(folder / "JPEGImages" / f"{name}.jpg") for name in ids]
    annotations = [str(folder / "Annotations" / f"{name}.xml") for name in ids]
    for files in (paths, annotations):
        if missing := missing_files(files):
            first = "".join(f"\n  {file}" for file in missing[:3])
            hint = "; data.read.test_list=null goes without" if split == "test" else ""
            raise ValueError(f"{split}: {len(missing)} of {len(files)} files are not there{hint}, first:{first}")
    targets = torch.stack([_read_annotation(Path(file)) for file in annotations])  # (N, 20)
    return Index(Strings.of(paths, prefix), targets)


def _read_annotation(file: Path) -> Tensor:
    """(20,) int8: 1 with an object that is not difficult, -1 with difficult ones alone, else 0."""
    target = torch.zeros(len(CLASS_NAMES), dtype=torch.int8)
    for item in _parse(file).findall("object"):
        name = item.findtext("name", "").strip()
        if name not in CLASS_NAMES:
            raise ValueError(f"{file}: {name!r} is none of VOC's 20 classes: {', '.join(CLASS_NAMES)}.")
        k = CLASS_NAMES.index(name)
        if item.findtext("difficult", "0").strip() != "1":
            target[k] = 1
        elif target[k] == 0:
            target[k] = -1
    return target


def _parse(file: Path) -> ElementTree.Element:
    """The annotation's root; no document type, since the entities it can define may grow without bound."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("a document type or entity is not read")
        return ElementTree.fromstring(text)
    except (ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"{file} is no VOC annotation: {error}.") from error
