"""PASCAL VOC, or annotations in its format, as a multi-label set: which classes an image holds.

Source: Everingham et al. 2010, http://host.robots.ox.ac.uk/pascal/VOC. As in its classification task, an object
marked difficult is not counted: a class with no other object in the image is unknown there.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import torch
from torch import Tensor

from fovea.data.index import Index, Splits
from fovea.data.sources.image_paths import leads_out, missing_files
from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)

Objects = dict[str, int]  # of one image: the class of each object -> 1, or -1 where all of them are difficult
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
    classes: Sequence[str] | Literal["all"] | None = None,
    ending: str = ".jpg",
) -> Splits:
    """Read VOCdevkit/VOC<year> under `root`; `root` may also be the VOCdevkit or the VOC<year> folder.

    Args:
        root: folder that holds the devkit.
        year: 2007 is the last one whose test set is annotated.
        train_list: ImageSets/Main/<train_list>.txt names the images to train on, such as train or trainval. Of a list
            for one class, such as cat_train with its 1, 0 and -1, all images are taken; labels are the annotations'.
        val_list: the same for validation; None leaves it out.
        test_list: the same for testing; None, or `test` without such a file, leaves it out.
        classes: None for VOC's 20; a list for other ones, in its order; "all" for every name in the annotations of
            the lists, sorted.
        ending: of the images' files.

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
    objects = {split: _read_objects(folder, split, names, ending) for split, names in ids.items()}
    class_names = _class_names(classes, objects)
    indices = {
        split: Index(StringArray.of(_images(folder, ids[split], ending), prefix), _targets(marks, class_names))
        for split, marks in objects.items()
    }
    return Splits("multilabel", class_names, indices["train"], indices.get("val"), indices.get("test"))


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
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no list of names: {error}.") from error
    if not lines:
        raise ValueError(f"{file} names no images.")
    ids = _without_marks(file, lines)
    if strange := [name for name in ids if leads_out(name)]:
        raise ValueError(f"{file}: {strange[0]!r} leads out of JPEGImages.")
    return ids


def _without_marks(file: Path, lines: list[str]) -> list[str]:
    """The names alone where each is followed by 1, 0 or -1; else the lines as they are, spaces in names included."""
    marked = [re.fullmatch(r"(\S+)\s+(-1|0|1)", line) for line in lines]
    names = [found[1] for found in marked if found]
    if len(names) < len(lines):
        return lines
    log.warning(
        "%s is about one class: all of its %d images are taken, and labels come from Annotations", file, len(names)
    )
    return names


def _check_disjoint(folder: Path, ids: Mapping[str, Sequence[str]]) -> None:
    seen: dict[str, str] = {}
    for split, names in ids.items():
        if shared := [name for name in names if name in seen]:
            raise ValueError(
                f"{folder}: {len(shared)} images of {split} are in {seen[shared[0]]} too, first {shared[:3]}.\n"
                "Give lists that share no image: with data.read.train_list=trainval, data.read.val_list=null."
            )
        seen.update(dict.fromkeys(names, split))


def _images(folder: Path, ids: Sequence[str], ending: str) -> list[str]:
    return [str(folder / "JPEGImages" / f"{name}{ending}") for name in ids]


def _read_objects(folder: Path, split: str, ids: Sequence[str], ending: str) -> list[Objects]:
    annotations = [str(folder / "Annotations" / f"{name}.xml") for name in ids]
    for files in (_images(folder, ids, ending), annotations):
        if missing := missing_files(files):
            first = "".join(f"\n  {file}" for file in missing[:3])
            hint = "; data.read.test_list=null goes without" if split == "test" else ""
            raise ValueError(f"{split}: {len(missing)} of {len(files)} files are not there{hint}, first:{first}")
    return [_read_annotation(Path(file)) for file in annotations]


def _class_names(classes: Sequence[str] | str | None, objects: Mapping[str, Sequence[Objects]]) -> tuple[str, ...]:
    """Raises ValueError where an annotation names another class, with how to read it."""
    images = Counter(name for marks in objects.values() for found in marks for name in found)
    if classes == "all":
        if not images:
            raise ValueError("data.read.classes=all: no annotation names an object, so there are no classes")
        return tuple(sorted(images))
    if isinstance(classes, str):
        raise ValueError(f"data.read.classes={classes}: give a list such as [cat,dog], or all, or null for VOC's 20")
    names = CLASS_NAMES if classes is None else tuple(map(str, classes))
    if strange := [f"{name!r} ({images[name]} images)" for name in sorted(images) if name not in names]:
        said = "none of VOC's 20 classes" if classes is None else "not in data.read.classes"
        raise ValueError(
            f"Annotations: {len(strange)} names are {said}: {', '.join(strange[:10])}\n"
            "Give data.read.classes=all to take the classes from the annotations, or data.read.classes=[<all names>]."
        )
    return names


def _targets(objects: Sequence[Objects], class_names: Sequence[str]) -> Tensor:
    """(N, K) int8: 1 with an object that is not difficult, -1 with difficult ones alone, else 0."""
    index_of = {name: k for k, name in enumerate(class_names)}
    targets = torch.zeros(len(objects), len(class_names), dtype=torch.int8)
    for row, marks in zip(targets, objects, strict=True):
        for name, mark in marks.items():
            row[index_of[name]] = mark
    return targets


def _read_annotation(file: Path) -> Objects:
    marks: Objects = {}
    for item in _parse(file).findall("object"):
        name = item.findtext("name", "").strip()
        if not name:
            raise ValueError(f"{file}: an object has no name.")
        difficult = item.findtext("difficult", "0").strip() == "1"
        marks[name] = marks.get(name, -1) if difficult else 1
    return marks


def _parse(file: Path) -> ElementTree.Element:
    """The annotation's root; no document type, since the entities it can define may grow without bound."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("a document type or entity is not read")
        return ElementTree.fromstring(text)
    except (ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"{file} is no VOC annotation: {error}.") from error
