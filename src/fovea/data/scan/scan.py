"""The images below some folders, as columns: no Python object per image stays."""

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

from fovea.data.string_array import Growing, StringArray, encode

THREADS = 16  # where each question waits: for a disk, or a network
PATIENCE = 0.1  # seconds
ADDED = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # with images that are copies, thumbnails or thrown away
NAMED = 5  # of the files that were passed over
CLOCK_TICK = 2_000_000_000  # ns; the coarsest with which a file system says when a folder changed
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Search:
    """What to look for: names that end in one of `extensions` in the folders `parts`, which are relative to `root`.

    Folders in a part's folder (classes) are listed too, and where `deep` is set those below them. Hidden ones are not;
    links to folders are followed.
    """

    root: str
    parts: tuple[str, ...]
    extensions: tuple[str, ...]
    deep: bool = True


@dataclass(frozen=True)
class Listing:
    """The images below the folder of one part, folder by folder, and sorted by name in each.

    Attributes:
        images: N paths; their prefix is the root.
        folders: F names relative to the part's folder, in the images' order: "" is itself, first; then the folders in
            it, sorted, each followed by all that are below it.
        counts: (F,) int64, the images right in each of `folders`.
        stamps: (F, 2) int64, see `stamps_of`.
        endings: how many files are passed over of each kind, see `kind_of`; a folder that is not listed counts as one.
        some: names relative to the part's folder of the first few of them.
    """

    images: StringArray
    folders: StringArray
    counts: Tensor
    stamps: Tensor
    endings: Mapping[str, int]
    some: list[str]

    @property
    def passed_over(self) -> int:
        """How many files are no images or hidden."""
        return sum(self.endings.values())

    @property
    def classes(self) -> list[str]:
        """The folders right in the part's."""
        return [name for name in self.folders if name and os.sep not in name]

    def labels(self, index_of: Mapping[str, int]) -> Tensor:
        """(N,) int64, by which of `classes` an image is in or below; -1 for one right in the part's folder."""
        of_folders = [index_of[name.partition(os.sep)[0]] if name else -1 for name in self.folders]
        return torch.from_numpy(np.repeat(np.array(of_folders, np.int64), self.counts.numpy()))


class Folder(NamedTuple):
    """One folder as it was found; its images' paths, relative to the root, are encoded."""

    name: str
    text: bytes
    lengths: np.ndarray
    below: list[str]
    endings: Counter[str]
    some: list[str]
    stamp: tuple[int, int]
    settled: bool


def scan(search: Search) -> tuple[list[Listing], bool]:
    """A listing of each part; and whether `stamps_of` will tell of every change from now on.

    It won't where a folder changed so recently that another change could leave its stamp as it is.

    Raises:
        ValueError: a folder cannot be listed, or is below a part twice, through a link.
    """
    found = [_scan_part(search, part) for part in search.parts]
    return [listing for listing, _ in found], all(settled for _, settled in found)


def stamps_of(search: Search, part: str, folders: Iterable[str]) -> Tensor:
    """(F, 2) int64, when the entries of each folder changed and when anything of it did, in ns; 0 if it isn't there."""
    paths = [_path(search, part, name) for name in folders]
    stamps = list(mapped(_stamp, paths))
    return torch.tensor(stamps, dtype=torch.int64).view(-1, 2)


def mapped(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`map`, in threads as soon as this one has waited for longer than it worked.

    Not from the start: what never waits is done three times as fast by one thread, to which no other's turn is due.
    """
    start, busy = time.perf_counter(), time.thread_time()
    for n, item in enumerate(items):
        worked = time.thread_time() - busy
        if time.perf_counter() - start - worked > max(PATIENCE, 2 * worked):
            with ThreadPoolExecutor(THREADS) as pool:
                yield from pool.map(function, items[n:])
            return
        yield function(item)


def is_hidden(name: str) -> bool:
    """By its name: what a file manager hides, and what the Mac, a network drive or Windows adds."""
    return name.startswith(".") or name in ADDED


def kind_of(name: str) -> str:
    """What a file or folder is counted as when it is passed over: its ending in lower case, or why it has none."""
    return "hidden" if is_hidden(name) else os.path.splitext(name)[1].lower() or "without an ending"


def refuse(error: OSError) -> NoReturn:
    """What `scandir` and `walk` say of a folder, as a person's fault to mend."""
    raise ValueError(f"{error.filename} cannot be listed: {error.strerror}") from error


def _scan_part(search: Search, part: str) -> tuple[Listing, bool]:
    """What a class holds is found by one thread, and goes into the columns in its turn."""
    seen: dict[tuple[int, int], str] = {}
    top = _scan_folder(search, part, seen, "", True)
    below = mapped(partial(_scan_class, search, part, seen), sorted(top.below))
    images, folders, counts, stamps = Growing(), [], [], []
    endings, some, settled = Counter[str](), list[str](), True
    for folder in chain([top], chain.from_iterable(below)):
        images.add(folder.text, folder.lengths)
        folders.append(folder.name)
        counts.append(len(folder.lengths))
        stamps.append(folder.stamp)
        endings += folder.endings
        some += folder.some[: NAMED - len(some)]
        settled &= folder.settled
    paths = images.strings(os.path.join(search.root, ""))
    columns = StringArray.of(folders), torch.tensor(counts), torch.tensor(stamps)
    return Listing(paths, *columns, endings, some), settled


def _scan_class(search: Search, part: str, seen: dict[tuple[int, int], str], name: str) -> list[Folder]:
    found, waiting = [], [name]
    while waiting:
        folder = _scan_folder(search, part, seen, waiting.pop(), search.deep)
        waiting += [os.path.join(folder.name, name) for name in folder.below]
        found.append(folder)
    return sorted(found, key=lambda folder: folder.name)


def _scan_folder(search: Search, part: str, seen: dict[tuple[int, int], str], name: str, deep: bool) -> Folder:
    path, now = _path(search, part, name), time.time_ns()
    images, below, others = list[str](), list[str](), list[str]()
    try:
        status = os.stat(path)  # before it is listed: a change meanwhile shows later
        _refuse_second(path, status, seen)
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_folder(entry):
                    (below if deep and not is_hidden(entry.name) else others).append(entry.name)
                elif entry.name.lower().endswith(search.extensions) and not entry.name.startswith("."):
                    images.append(entry.name)
                else:
                    others.append(entry.name)
    except OSError as error:
        refuse(error)
    stamp = status.st_mtime_ns, status.st_ctime_ns
    settled = all(abs(now - changed) > CLOCK_TICK for changed in stamp)
    some = [os.path.join(name, other) for other in sorted(others)[:NAMED]]
    text, lengths = encode(sorted(images), os.path.join(part, name, ""))
    return Folder(name, text, lengths, below, Counter(map(kind_of, others)), some, stamp, settled)


def _refuse_second(path: str, status: os.stat_result, seen: dict[tuple[int, int], str]) -> None:
    """Some file systems' numbers are no identity, so where they are equal the paths have the last word."""
    first = seen.setdefault((status.st_dev, status.st_ino), path)
    if first != path and os.path.realpath(first) == os.path.realpath(path):
        raise ValueError(f"{first} and {path} are one folder, through a link: its images would count twice")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say
        return False


def _path(search: Search, part: str, name: str) -> str:
    return os.path.join(*filter(None, (search.root, part, name)))


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ctime_ns
