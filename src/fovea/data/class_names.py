"""Checks a dataset's class names, whatever source it was read from, and describes labels by them."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch

from fovea.data.index import Splits, Task

log = logging.getLogger(__name__)

MISSING = frozenset({"nan", "nat", "null", "<na>", "#n/a", "#na"})  # how tables write a missing value
PERHAPS_MISSING = frozenset({"none", "na", "n/a"})  # these may also be ordinary words


def check_classes(data: Splits) -> None:
    """Warn of similar names, of names that look like a missing value, and of classes that train does not contain.

    Raises:
        ValueError: a class name is empty or belongs to two classes.
    """
    names = data.class_names
    if invalid := [repr(name) for name, uses in Counter(names).items() if uses > 1 or not name.strip()]:
        raise ValueError(
            f"{len(invalid)} class names are empty or belong to several classes, such as {', '.join(invalid[:3])}: "
            "give each class its own name"
        )
    counts = images_per_class(data)
    for group in similar_names(names)[:5]:
        listed = " and ".join(f"{names[k]!r} ({counts[k]:,} images)" for k in group)
        log.warning("%s differ only in case, spaces or punctuation: if they are one class, give it one name", listed)
    for k, name in enumerate(names):
        if name.casefold() in MISSING | PERHAPS_MISSING:
            log.warning("%r is a class of %s images: is it a missing value?", name, f"{counts[k]:,}")
    if data.task == "multilabel":
        _warn_about_absent_classes(data)


def describe_label(task: Task, class_names: Sequence[str], label: Sequence[int]) -> str:
    """Name an image's class, given as (index,), or the classes that are present or unknown, given as K labels."""
    if task == "multiclass":
        return class_names[label[0]]
    parts = [name if value == 1 else f"{name} unknown" for name, value in zip(class_names, label, strict=True) if value]
    return ", ".join(parts[:4]) + (", ..." if len(parts) > 4 else "") or "no class"


def images_per_class(data: Splits) -> list[int]:
    """Count the images of each class over all splits: a list of K numbers."""
    indices = {id(index): index for index in (data.train, data.val, data.test) if index is not None}.values()
    if data.task == "multilabel":
        return sum((index.targets == 1).sum(dim=0) for index in indices).tolist()  # type: ignore[union-attr]
    return torch.bincount(torch.cat([i.targets for i in indices]), minlength=len(data.class_names)).tolist()


def similar_names(names: Sequence[str]) -> list[list[int]]:
    """Group the indices of names that differ only in case, spaces or punctuation; numbers are compared as written."""
    groups = defaultdict(list)
    for k, name in enumerate(names):
        groups[_normalized(name)].append(k)
    return [group for group in groups.values() if len(group) > 1]


def _normalized(name: str) -> str:
    if is_number(name):
        return name.strip()
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


def is_number(text: str) -> bool:
    """Return whether the text is a finite number in Python's notation."""
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _warn_about_absent_classes(data: Splits) -> None:
    if data.train is None or not len(data.train):
        return
    present = (data.train.targets == 1).any(dim=0).tolist()
    absent = [name for name, is_present in zip(data.class_names, present, strict=True) if not is_present]
    if absent:
        log.warning("%d of %d classes are never present in train: %s", len(absent), len(present), absent[:10])
