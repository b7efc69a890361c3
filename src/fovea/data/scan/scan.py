"""Scans folders for images and returns their paths as columns, without a Python object per image."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import NamedTuple, NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor

from fovea.data.string_array import StringArray, StringArrayBuilder, encode

THREADS = 16  # used when the file system is slow, such as a network drive
PATIENCE = 0.1  # seconds of waiting before threads are used
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # hold copies, thumbnails and deleted images
MAX_EXAMPLES = 5  # names of skipped files that are kept
CLOCK_TICK = 2_000_000_000  # ns; the coarsest resolution of a file system's modification times
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Search:
    """What to scan: files that end in one of `extensions`, in the folders `parts` (relative to `root`).

    The folders directly in a part (classes) are scanned too; with `deep`, all folders below those as well. Hidden
    folders are skipped; links to folders are followed.
    """

    root: str
    parts: tuple[str, ...]
    extensions: tuple[str, ...]
    deep: bool = True


@dataclass(frozen=True)
class Listing:
    """The images below one part's folder, folder by folder, sorted by name within each.

    Attributes:
        images: N paths; their prefix is the root.
        folders: F names relative to the part's folder, in the images' order: first "" for the part's folder itself,
            then the folders in it, sorted, each followed by all folders below it.
        counts: (F,) int64, the number of images directly in each of `folders`.
        stamps: (F, 2) int64, see `timestamps`.
        skipped_by_ending: the number of skipped files by `skip_reason`; a skipped folder counts as one file.
        skipped_examples: the first few of their names, relative to the part's folder.
    """

    images: StringArray
    folders: StringArray
    counts: Tensor
    stamps: Tensor
    skipped_by_ending: Mapping[str, int]
    skipped_examples: list[str]

    @property
    def skipped(self) -> int:
        """The number of files that are not images or hidden."""
        return sum(self.skipped_by_ending.values())

    @property
    def classes(self) -> list[str]:
        """The names of the folders directly in the part's folder."""
        return [name for name in self.folders if name and os.sep not in name]

    def labels(self, index_of: Mapping[str, int]) -> Tensor:
        """Return each image's class index (N,) int64, by the class folder it is below; -1 if it is in none."""
        of_folders = [index_of[name.partition(os.sep)[0]] if name else -1 for name in self.folders]
        return torch.from_numpy(np.repeat(np.array(of_folders, np.int64), self.counts.numpy()))


class Folder(NamedTuple):
    """The content of one folder; `text` and `lengths` are its image paths relative to the root (see `encode`)."""

    name: str
    text: bytes
    lengths: np.ndarray
    subfolders: list[str]
    skipped_by_ending: Counter[str]
    skipped_examples: list[str]
    stamp: tuple[int, int]
    settled: bool


def scan(search: Search) -> tuple[list[Listing], bool]:
    """Return a listing of each part, and whether `timestamps` will show every later change.

    It may not if a folder changed within the last CLOCK_TICK: another change could leave its timestamp the same.

    Raises:
        ValueError: a folder cannot be listed, or a link leads to the same folder a second time.
    """
    found = [_scan_part(search, part) for part in search.parts]
    return [listing for listing, _ in found], all(settled for _, settled in found)


def timestamps(search: Search, part: str, folders: Iterable[str]) -> Tensor:
    """Return each folder's modification and change time (mtime, ctime) in ns, (F, 2) int64; 0 if it does not exist."""
    paths = [_path(search, part, name) for name in folders]
    stamps = list(threaded_map(_stamp, paths))
    return torch.tensor(stamps, dtype=torch.int64).view(-1, 2)


def threaded_map(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Apply `function` to the items in order, switching to threads once this thread has mostly waited.

    One thread is three times as fast as several if the calls do not wait, so threads are not used from the start.
    """
    start, start_cpu = time.perf_counter(), time.thread_time()
    for n, item in enumerate(items):
        cpu_time = time.thread_time() - start_cpu
        if time.perf_counter() - start - cpu_time > max(PATIENCE, 2 * cpu_time):
            with ThreadPoolExecutor(THREADS) as pool:
                yield from pool.map(function, items[n:])
            return
        yield function(item)


def is_hidden(name: str) -> bool:
    """Return whether the name begins with a dot or is a folder that macOS, a network drive or Windows adds."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def skip_reason(name: str) -> str:
    """Return how a skipped file or folder is counted: "hidden", its lower-case ending, or "without an ending"."""
    return "hidden" if is_hidden(name) else os.path.splitext(name)[1].lower() or "without an ending"


def raise_unlistable(error: OSError) -> NoReturn:
    """Raise ValueError for a folder that cannot be listed."""
    raise ValueError(f"{error.filename} cannot be listed: {error.strerror}") from error


def _scan_part(search: Search, part: str) -> tuple[Listing, bool]:
    """Scan one part, each class folder in one thread, and collect the columns in order."""
    seen: dict[tuple[int, int], str] = {}
    top = _scan_folder(search, part, seen, "", True)
    class_folders = threaded_map(partial(_scan_class, search, part, seen), sorted(top.subfolders))
    images, folders, counts, stamps = StringArrayBuilder(), [], [], []
    skipped_by_ending, examples, settled = Counter[str](), list[str](), True
    for folder in chain([top], chain.from_iterable(class_folders)):
        images.add(folder.text, folder.lengths)
        folders.append(folder.name)
        counts.append(len(folder.lengths))
        stamps.append(folder.stamp)
        skipped_by_ending += folder.skipped_by_ending
        examples += folder.skipped_examples[: MAX_EXAMPLES - len(examples)]
        settled &= folder.settled
    paths = images.build(os.path.join(search.root, ""))
    columns = StringArray.of(folders), torch.tensor(counts), torch.tensor(stamps)
    return Listing(paths, *columns, skipped_by_ending, examples), settled


def _scan_class(search: Search, part: str, seen: dict[tuple[int, int], str], name: str) -> list[Folder]:
    found, pending = [], [name]
    while pending:
        folder = _scan_folder(search, part, seen, pending.pop(), search.deep)
        pending += [os.path.join(folder.name, name) for name in folder.subfolders]
        found.append(folder)
    return sorted(found, key=lambda folder: folder.name)


def _scan_folder(search: Search, part: str, seen: dict[tuple[int, int], str], name: str, deep: bool) -> Folder:
    path, now = _path(search, part, name), time.time_ns()
    images, subfolders, others = list[str](), list[str](), list[str]()
    try:
        status = os.stat(path)  # before listing, so that a change during the listing is noticed later
        _check_not_seen(path, status, seen)
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_folder(entry):
                    (subfolders if deep and not is_hidden(entry.name) else others).append(entry.name)
                elif entry.name.lower().endswith(search.extensions) and not entry.name.startswith("."):
                    images.append(entry.name)
                else:
                    others.append(entry.name)
    except OSError as error:
        raise_unlistable(error)
    stamp = status.st_mtime_ns, status.st_ctime_ns
    settled = all(abs(now - changed) > CLOCK_TICK for changed in stamp)
    examples = [os.path.join(name, other) for other in sorted(others)[:MAX_EXAMPLES]]
    text, lengths = encode(sorted(images), os.path.join(part, name, ""))
    return Folder(name, text, lengths, subfolders, Counter(map(skip_reason, others)), examples, stamp, settled)


def _check_not_seen(path: str, status: os.stat_result, seen: dict[tuple[int, int], str]) -> None:
    """Raise ValueError if the folder was scanned before; paths are compared too, as inode numbers may not be unique."""
    first = seen.setdefault((status.st_dev, status.st_ino), path)
    if first != path and os.path.realpath(first) == os.path.realpath(path):
        raise ValueError(f"{first} and {path} are the same folder, through a link: remove the link")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def _path(search: Search, part: str, name: str) -> str:
    return os.path.join(*filter(None, (search.root, part, name)))


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ctime_ns
