"""Reads COCO's instance annotations as multi-label data: which categories are present in each image.

Source: Lin et al. 2014, https://arxiv.org/abs/1405.0312; format: https://cocodataset.org/#format-data.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from fovea.data.index import Index, Splits
from fovea.data.sources.image_paths import leaves_folder, missing_files
from fovea.data.string_array import StringArray

log = logging.getLogger(__name__)

Json = dict[str, Any]
Categories = tuple[tuple[int, str], ...]
ITEMS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str},
    "annotations": {"image_id": int, "category_id": int},
    "categories": {"id": int, "name": str},
}
KEPT = ("images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "name")


def read_coco(
    root: Path,
    train_images: str = "train2017",
    val_images: str = "val2017",
    test_images: str = "test2017",
    train_annotations: str | None = "annotations/instances_train2017.json",
    val_annotations: str | None = "annotations/instances_val2017.json",
    test_annotations: str | None = None,
) -> Splits:
    """Read instances files; class k is the k-th category by id (COCO's 80 ids lie between 1 and 90, with gaps).

    Categories with the same name become one class, at the position of the lowest id, with a warning.

    A category is present if the image has any annotation of it, including crowd regions (`iscrowd`). An image without
    annotations is kept, with every category absent.

    Args:
        root: folder that the image folders and annotation files are relative to.
        train_images: folder of the training images; the same for val and test.
        train_annotations: instances file of the training images, None to leave the split out; the same for val and
            test. COCO's own test set has no public labels.

    Raises:
        ValueError: a file or image is missing, a file is not an instances file, or two files differ in categories.
    """
    files = {"train": train_annotations, "val": val_annotations, "test": test_annotations}
    folders = {"train": train_images, "val": val_images, "test": test_images}
    read = {split: _read_split(root, file, folders[split]) for split, file in files.items() if file is not None}
    if not read:
        raise ValueError("no annotations are given: set, for example, data.read.val_annotations=<file in data.root>")
    _check_same_categories({str(files[split]): categories for split, (categories, _) in read.items()})
    categories = next(iter(read.values()))[0]
    _warn_about_merged(categories)
    indices = {split: index for split, (_, index) in read.items()}
    names = _class_names(categories)
    return Splits("multilabel", names, indices.get("train"), indices.get("val"), indices.get("test"))


def _check_same_categories(categories_of: Mapping[str, Categories]) -> None:
    (first, expected), *others = categories_of.items()
    for file, categories in others:
        if categories != expected:
            raise ValueError(
                f"{file} has other categories than {first},"
                f" first {sorted(set(categories) ^ set(expected))[:3]} (id, name).\nTake all files from one release."
            )


def _read_split(root: Path, annotations: str, folder: str) -> tuple[Categories, Index]:
    file = root / annotations
    content = _read_json(file)
    _check_items(file, content)
    categories = _categories(file, content["categories"])
    paths = [os.path.join(root, folder, item["file_name"]) for item in content["images"]]
    if not paths:
        raise ValueError(f"{file} lists no images.")
    if missing := missing_files(paths):
        first = "".join(f"\n  {path}" for path in missing[:3])
        raise ValueError(f"{file}: {len(missing)} of {len(paths)} images are missing, first:{first}")
    return categories, Index(StringArray.of(paths, os.path.join(root, "")), _targets(file, content, categories))


def _categories(file: Path, items: Sequence[Json]) -> Categories:
    """Return the (id, name) pairs, sorted by id."""
    categories = tuple(sorted({(item["id"], item["name"].strip()) for item in items}))
    for (number, name), (following, other) in pairwise(categories):
        if number == following:
            raise ValueError(f"{file}: categories {name!r} and {other!r} share the id {number}; each needs its own.")
    return categories


def _class_names(categories: Categories) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for _, name in categories))


def _warn_about_merged(categories: Categories) -> None:
    ids: dict[str, list[int]] = {}
    for number, name in categories:
        ids.setdefault(name, []).append(number)
    merged = [f"{name!r} (ids {', '.join(map(str, same))})" for name, same in ids.items() if len(same) > 1]
    if merged:
        log.warning("%d category names have several ids; each name is read as one class: %s", len(merged), merged[:5])


def _read_json(file: Path) -> Json:
    if not file.is_file():
        raise ValueError(f"{file} does not exist. Set data.root=<folder> and data.read.*_annotations=<file in it>.")
    with open(file, encoding="utf-8") as stream:
        try:
            content = json.load(stream, object_hook=_without_shapes)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a COCO instances file: it contains {type(content).__name__}.")
    if absent := [key for key in KEPT[:3] if key not in content]:
        raise ValueError(f"{file} has no {absent[0]!r}: it is not a COCO instances file.")
    return content


def _check_items(file: Path, content: Json) -> None:
    """Raise ValueError if an item lacks an id or a name, or if an image's file name points outside its folder."""
    for part, types in ITEMS.items():
        items = content[part]
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ValueError(f"{file}: {part!r} is not a list of objects.")
        for item in items:
            for key, type_ in types.items():
                if not isinstance(item.get(key), type_):
                    raise ValueError(
                        f"{file}: an item of {part} has {key!r} {item.get(key)!r}: {type_.__name__} expected."
                    )
    for item in content["images"]:
        if leaves_folder(item["file_name"]):
            raise ValueError(f"{file}: file_name {item['file_name']!r} points outside the images' folder.")


def _without_shapes(item: Json) -> Json:
    """Keep only the needed keys while parsing: COCO's polygons as Python lists would take gigabytes."""
    return {key: item[key] for key in KEPT if key in item}


def _targets(file: Path, content: Mapping[str, Sequence[Json]], categories: Categories) -> torch.Tensor:
    """Return (N, K) int8: 1 if an image has an annotation of the category, else 0."""
    row_of = {item["id"]: i for i, item in enumerate(content["images"])}
    if len(row_of) != len(content["images"]):
        raise ValueError(f"{file}: {len(content['images'])} images share {len(row_of)} ids; each needs its own.")
    names = _class_names(categories)
    column_of = {number: names.index(name) for number, name in categories}
    try:
        rows = [row_of[item["image_id"]] for item in content["annotations"]]
        columns = [column_of[item["category_id"]] for item in content["annotations"]]
    except KeyError as error:
        raise ValueError(f"{file}: an annotation refers to a missing image or category, id {error}.") from error
    targets = torch.zeros(len(row_of), len(names), dtype=torch.int8)
    targets[torch.tensor(rows, dtype=torch.int64), torch.tensor(columns, dtype=torch.int64)] = 1
    return targets
