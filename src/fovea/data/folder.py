"""Single-label images in class folders: below train/ (and val/, test/), or right in the root."""

import logging
import os
from pathlib import Path
from typing import NoReturn

import torch
from torchvision.datasets import ImageFolder

from fovea.data.decode import EXTENSIONS
from fovea.data.index import Index, Splits

log = logging.getLogger(__name__)

SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LAYOUT = "train/<class>/<image> (val/ and test/ alike), or <class>/<image>"


def read_folder(root: Path) -> Splits:
    """Lists the images of each class folder; the classes are train's folders, sorted by name.

    Folders whose name starts with a dot, and `__MACOSX`, are no classes. Hidden files and those that are no
    images are passed over, and a class without a training image is kept; a warning says so, with the count.

    Raises:
        ValueError: no such folder, no image, fewer than two classes, a class that train has not, a folder
            that cannot be listed or is reached twice through a link.
    """
    folders = _split_folders(root)
    train = ClassFolders(folders["train"])
    if len(train.classes) < 2:
        raise ValueError(
            f"{folders['train']} has one class folder only, {train.classes[0]!r}: nothing to tell apart\n"
            f"(expected two classes or more, as {LAYOUT})"
        )
    _say_empty_classes(train)
    val, test = (ClassFolders(folders[s], train).index() if s in folders else None for s in ("val", "test"))
    return Splits("multiclass", tuple(train.classes), train.index(), val, test)


class ClassFolders(ImageFolder):
    """torchvision's listing, without hidden folders and without its silences.

    Args:
        folder: holds the class folders.
        train: whose class indices count; None where this is train itself.
    """

    def __init__(self, folder: Path, train: "ClassFolders | None" = None) -> None:
        _check_folders(folder)
        self.train = train
        self.passed_over = [entry.name for entry in _entries(folder) if not entry.is_dir()]
        super().__init__(str(folder), is_valid_file=self._is_image, allow_empty=True)
        if not self.samples:
            there = f", not {_first(self.passed_over)}" if self.passed_over else ""
            raise ValueError(f"no image in {folder}: expected <class>/<image> ending in {' '.join(EXTENSIONS)}{there}")
        if self.passed_over:
            count, some = len(self.passed_over), _first(self.passed_over)
            log.warning("%s: %d files passed over, hidden or no images: %s", folder, count, some)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """This folder's classes, sorted, and the index of each in train's."""
        names = _folders(Path(directory))
        if not names:
            raise ValueError(f"no class folder in {directory}: expected {LAYOUT}")
        if self.train is None:
            return names, {name: k for k, name in enumerate(names)}
        unknown = [name for name in names if name not in self.train.class_to_idx]
        if unknown:
            raise ValueError(
                f"{directory} has {len(unknown)} classes that {self.train.root} has not: {_first(unknown)}\n"
                "Add training images of them, rename them if only the spelling differs, or take them out."
            )
        return names, {name: self.train.class_to_idx[name] for name in names}

    def index(self) -> Index:
        """Sorted by class, then by path."""
        return Index([path for path, _ in self.samples], torch.tensor(self.targets))

    def _is_image(self, path: str) -> bool:
        below = path[len(str(self.root)) :].replace(os.sep, "/")
        if path.lower().endswith(EXTENSIONS) and "/." not in below and "/__MACOSX/" not in below:
            return True
        self.passed_over.append(Path(path).name)
        return False


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of train, and of val and test if they are there; `root` is train's if none of them is."""
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"{root} {fault}: expected a folder with {LAYOUT}")
    folders = _folders(root)
    found: dict[str, Path] = {}
    for name in folders:
        split = SPLIT_OF.get(name.lower())
        if split in found:
            raise ValueError(f"{root} has {found[split].name} and {name}, both for {split}: keep one of them")
        if split is not None:
            found[split] = root / name
    if found and "train" not in found:
        there = ", ".join(path.name for path in found.values())
        raise ValueError(f"{root} has {there} but no train: expected {LAYOUT}")
    unread = [name for name in folders if found and name.lower() not in SPLIT_OF]
    if unread:
        log.warning("%s: %d folders beside train not read: %s", root, len(unread), _first(unread))
    return found or {"train": root}


def _say_empty_classes(train: ClassFolders) -> None:
    counts = torch.bincount(torch.tensor(train.targets), minlength=len(train.classes))  # (K,)
    empty = [name for name, count in zip(train.classes, counts.tolist(), strict=True) if count == 0]
    if empty:
        share = f"{len(empty)} of {len(train.classes)}"
        log.warning("%s: %s classes have no image to learn from: %s", train.root, share, _first(empty))


def _check_folders(folder: Path) -> None:
    """torchvision would drop a folder it may not list, and list one twice that a link leads to again."""
    seen: dict[str, str] = {}
    for place, below, _ in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(place)
        if real in seen:
            raise ValueError(f"{seen[real]} and {place} are one folder, through a link: its images would count twice")
        seen[real] = place
        below[:] = [name for name in below if not _is_hidden(name)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    raise ValueError(f"{error.filename} cannot be listed: {error.strerror}") from error


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.is_dir() and not _is_hidden(entry.name)]


def _first(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
