"""Reads PASCAL VOC, or annotations in its format, as multi-label data: which classes are present in each image.

Source: Everingham et al. 2010, http://host.robots.ox.ac.uk/pascal/VOC. As in its classification task, objects marked
difficult are not counted: if all objects of a class in an image are difficult, its label is unknown.
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
from fovea.data.sources.image_paths import leaves_folder, missing_files
from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)

Objects = dict[str, int]  # one image's classes -> 1, or -1 if all objects of the class are difficult
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
    """Read VOCdevkit/VOC<year> below `root`; `root` may also be the VOCdevkit or the VOC<year> folder.

    Args:
        root: folder that contains the devkit.
        year: 2007 is the last year with a public annotated test set.
        train_list: the training images are listed in ImageSets/Main/<train_list>.txt, such as train or trainval. Lists
            for one class (cat_train, with 1, 0 or -1 per image) work too: the numbers are ignored.
        val_list: the same for validation; None leaves the split out.
        test_list: the same for test; None leaves the split out, and so does `test` if that file does not exist.
        classes: None for VOC's 20 classes; a list of others, in that order; "all" for all names in the annotations,
            sorted.
        ending: the ending of the image files.

    Raises:
        ValueError: a folder, list, image or annotation is missing, an image is in two splits, or an annotation is not
            in VOC's format.
    """
    folder = _find_folder(root, year)
    lists = {"train": train_list, "val": val_list, "test": test_list}
    if test_list == "test" and not _list_file(folder, test_list).is_file():
        log.info("%s has no ImageSets/Main/test.txt (VOC provides it in a separate archive): no test split", folder)
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
        f"{str(root)!r} has no VOCdevkit/{name} with ImageSets/Main, JPEGImages and Annotations.\n"
        "Set data.root=<the folder that contains VOCdevkit> and data.read.year=<the year in VOC<year>>."
    )


def _list_file(folder: Path, name: str) -> Path:
    return folder / "ImageSets" / "Main" / f"{name}.txt"


def _read_list(folder: Path, name: str) -> list[str]:
    file = _list_file(folder, name)
    if not file.is_file():
        raise ValueError(f"{file} does not exist. Set data.read.train_list, val_list or test_list to another list.")
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a list of names: {error}.") from error
    if not lines:
        raise ValueError(f"{file} lists no images.")
    ids = _without_marks(file, lines)
    if outside := [name for name in ids if leaves_folder(name)]:
        raise ValueError(f"{file}: {outside[0]!r} points outside JPEGImages.")
    return ids


def _without_marks(file: Path, lines: list[str]) -> list[str]:
    """Remove the 1, 0 or -1 after each name if all lines have one; else return the lines, which may contain spaces."""
    matches = [re.fullmatch(r"(\S+)\s+(-1|0|1)", line) for line in lines]
    names = [match[1] for match in matches if match]
    if len(names) < len(lines):
        return lines
    log.warning(
        "%s is a list for one class: all of its %d images are used, and labels come from Annotations", file, len(names)
    )
    return names


def _check_disjoint(folder: Path, ids: Mapping[str, Sequence[str]]) -> None:
    seen: dict[str, str] = {}
    for split, names in ids.items():
        if shared := [name for name in names if name in seen]:
            raise ValueError(
                f"{folder}: {len(shared)} images of {split} are also in {seen[shared[0]]}, first {shared[:3]}.\n"
                "Choose lists that share no image: with data.read.train_list=trainval, data.read.val_list=null."
            )
        seen.update(dict.fromkeys(names, split))


def _images(folder: Path, ids: Sequence[str], ending: str) -> list[str]:
    return [str(folder / "JPEGImages" / f"{name}{ending}") for name in ids]


def _read_objects(folder: Path, split: str, ids: Sequence[str], ending: str) -> list[Objects]:
    annotations = [str(folder / "Annotations" / f"{name}.xml") for name in ids]
    for files in (_images(folder, ids, ending), annotations):
        if missing := missing_files(files):
            first = "".join(f"\n  {file}" for file in missing[:3])
            hint = "; data.read.test_list=null leaves this split out" if split == "test" else ""
            raise ValueError(f"{split}: {len(missing)} of {len(files)} files are missing{hint}, first:{first}")
    return [_read_annotation(Path(file)) for file in annotations]


def _class_names(classes: Sequence[str] | str | None, objects: Mapping[str, Sequence[Objects]]) -> tuple[str, ...]:
    """Return the class names; raise ValueError if an annotation contains another class."""
    image_counts = Counter(name for images in objects.values() for image in images for name in image)
    if classes == "all":
        if not image_counts:
            raise ValueError("data.read.classes=all: no annotation contains an object, so there are no classes")
        return tuple(sorted(image_counts))
    if isinstance(classes, str):
        raise ValueError(f"data.read.classes={classes}: expected a list such as [cat,dog], all, or null for VOC's 20")
    names = CLASS_NAMES if classes is None else tuple(map(str, classes))
    if unknown := [f"{name!r} ({image_counts[name]} images)" for name in sorted(image_counts) if name not in names]:
        reason = "not among VOC's 20 classes" if classes is None else "not in data.read.classes"
        raise ValueError(
            f"Annotations: {len(unknown)} names are {reason}: {', '.join(unknown[:10])}\n"
            "Set data.read.classes=all to take the classes from the annotations, or data.read.classes=[<all names>]."
        )
    return names


def _targets(objects: Sequence[Objects], class_names: Sequence[str]) -> Tensor:
    """Return (N, K) int8: 1 if a class has an object that is not difficult, -1 if all are difficult, else 0."""
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
    """Parse the XML; document types are an error, because the entities they define can expand without bound."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it defines a document type or an entity")
        return ElementTree.fromstring(text)
    except (ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"{file} is not a VOC annotation: {error}.") from error
