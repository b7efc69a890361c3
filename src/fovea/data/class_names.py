"""What is wrong or doubtful about a dataset's class names, whatever it was read from."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch

from fovea.data.index import Splits

log = logging.getLogger(__name__)

MISSING = frozenset({"nan", "nat", "null", "<na>", "#n/a", "#na"})  # how tables write that there is no value
PERHAPS_MISSING = frozenset({"none", "na", "n/a"})  # so do these, and they are words as well


def check_classes(data: Splits) -> None:
    """Warns of names that hardly differ or stand for a missing value, and of classes that train never shows.

    Raises:
        ValueError: a class has no name, or two have the same.
    """
    names = data.class_names
    if twice := [repr(name) for name, uses in Counter(names).items() if uses > 1 or not name.strip()]:
        raise ValueError(
            f"{len(twice)} class names are empty or belong to several classes, such as {', '.join(twice[:3])}: "
            "each class needs a name of its own"
        )
    counts = images_per_class(data)
    for some in similar(names)[:5]:
        listed = " and ".join(f"{names[k]!r} ({counts[k]:,} images)" for k in some)
        log.warning("%s differ only in case, spaces or punctuation: if they are one class, give it one name", listed)
    for k, name in enumerate(names):
        if name.casefold() in MISSING | PERHAPS_MISSING:
            log.warning("%r is a class of %s images: is it a missing value?", name, f"{counts[k]:,}")
    if data.task == "multilabel":
        _say_never_present(data)


def images_per_class(data: Splits) -> list[int]:
    """(K) how many images of all splits are of each class, or hold it."""
    indices = {id(index): index for index in (data.train, data.val, data.test) if index is not None}.values()
    if data.task == "multilabel":
        return sum((index.targets == 1).sum(dim=0) for index in indices).tolist()  # type: ignore[union-attr]
    return torch.bincount(torch.cat([i.targets for i in indices]), minlength=len(data.class_names)).tolist()


def similar(names: Sequence[str]) -> list[list[int]]:
    """Places of the names that are equal but for case, spaces and punctuation; numbers differ in their signs."""
    places = defaultdict(list)
    for k, name in enumerate(names):
        places[_letters(name)].append(k)
    return [some for some in places.values() if len(some) > 1]


def _letters(name: str) -> str:
    if is_number(name):
        return name.strip()
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


def is_number(text: str) -> bool:
    """Whether Python would read it as a finite number."""
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _say_never_present(data: Splits) -> None:
    if data.train is None or not len(data.train):
        return
    seen = (data.train.targets == 1).any(dim=0).tolist()
    never = [name for name, there in zip(data.class_names, seen, strict=True) if not there]
    if never:
        log.warning("%d of %d classes are never present in train: %s", len(never), len(seen), never[:10])
