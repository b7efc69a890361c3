"""What a dataset holds, as digests: the same for its files and for a store packed from them, wherever they lie."""

import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fovea.data.index import Index
from fovea.data.scan.scan import mapped
from fovea.data.string_array import StringArray
from fovea.files import sha256, short_digest

READ_AT_MOST = 256 << 20, 100_000  # bytes and files whose contents are looked at: about a second
AT_ONCE = 256
GONE = -1


class Difference(NamedTuple):
    """What one plain sentence says of two records; `certain` is False where it may mean nothing."""

    text: str
    certain: bool


def record(class_names: Sequence[str], splits: Mapping[str, Index], root: str | None) -> dict[str, Any]:
    """What `compare` compares; all but `counts` are 16 hexadecimal digits.

    {"images": `fingerprint`, "counts": {split: images}, "bytes": of each image's length, "contents": of its checksum,
    "times": of when its file last changed, in ns}. Of files, contents are looked at within READ_AT_MOST, else they are
    None; of a store they are always known, and times never are. 3 s for a million files that nothing waits for.
    """
    sizes, times, sums = _states(list({id(index): index for index in splits.values()}.values()))
    return {
        "images": fingerprint(class_names, splits, root),
        "counts": {split: len(index) for split, index in splits.items()},
        "bytes": _digest(sizes),
        "contents": _digest(sums),
        "times": _digest(times),
    }


def compare(then: dict[str, Any], now: dict[str, Any]) -> Difference | None:
    """What differs first of two records, if anything does; a record that lacks a key can't differ in it."""
    then = now | then
    for split, n in then["counts"].items():
        there = now["counts"].get(split, 0)
        if n != there:
            return Difference(f"the {split} images: {n:,} then, {there:,} now", certain=True)
    if then["images"] != now["images"]:
        return Difference("other images, labels or classes, as many as before", certain=True)
    if then["bytes"] != now["bytes"]:
        return Difference("the sizes of the images' files changed", certain=True)
    if then["contents"] and now["contents"]:
        changed = Difference("the contents of the images' files changed", certain=True)
        return changed if then["contents"] != now["contents"] else None
    if then["times"] and now["times"] and then["times"] != now["times"]:
        return Difference("only the files' times differ: they were copied, or changed", certain=False)
    return None


def fingerprint(class_names: Sequence[str], splits: Mapping[str, Index], root: str | None) -> str:
    """16 hexadecimal digits of the class names, and of each split's images: their names below `root`, their targets.

    Of the pixels nothing. Two seconds and no string an image for ten million images that lie below `root`.
    """
    return short_digest(_content(class_names, splits, root))


def _content(class_names: Sequence[str], splits: Mapping[str, Index], root: str | None) -> Iterator[bytes]:
    yield os.fsencode("\n".join(class_names))
    for split, index in sorted(splits.items()):
        yield f"\n{split} {len(index)}\n".encode()
        names = index.paths if index.store else relative(index.paths, root)  # a store's are relative already
        yield sha256(text.tobytes() for text, _ in names.chunks())
        yield sha256(np.diff(starts).astype(np.int64).tobytes() for _, starts in names.chunks())
        yield np.ascontiguousarray(index.targets.numpy()).tobytes()


def relative(names: StringArray, root: str | None) -> StringArray:
    """The names below `root`, without it; one that lies elsewhere stays as it is."""
    prefix = os.path.join(Path(root).expanduser(), "") if root else ""
    if names.prefix == prefix:
        return StringArray("", names.text, names.starts, names.rows)
    return StringArray.of([name.removeprefix(prefix) for name in names])


def _states(indices: Sequence[Index]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Of all images in a row: lengths, times and CRC-32s (N,) int64; None for what isn't known."""
    if indices[0].store:
        sums = [index.store.sums(index.rows) for index in indices if index.store]
        lengths, checksums = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*sums, strict=True))
        return lengths, None, checksums
    sizes, times = np.concatenate([_of_all(_state, index.paths) for index in indices]).T
    most_bytes, most_files = READ_AT_MOST
    if len(sizes) > most_files or sizes.sum() > most_bytes:
        return sizes, times, None
    return sizes, times, np.concatenate([_of_all(_checksum, index.paths) for index in indices])


def _of_all(question: Callable[[str], Any], paths: StringArray) -> np.ndarray:
    """The answers, int64; a thread asks for many files in turn."""
    firsts = range(0, len(paths), AT_ONCE)
    answers = mapped(lambda first: np.array([question(p) for p in paths[first : first + AT_ONCE]], np.int64), firsts)
    return np.concatenate(list(answers))


def _state(path: str) -> tuple[int, int]:
    """(size, time of change); GONE for what is no file."""
    try:
        state = os.stat(path)
    except OSError:
        return GONE, GONE
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else (GONE, GONE)


def _checksum(path: str) -> int:
    """As a store's."""
    if _state(path)[0] == GONE:  # reading a device or a pipe might never end
        return GONE
    try:
        with open(path, "rb") as file:
            return zlib.crc32(file.read())
    except OSError:
        return GONE


def _digest(column: np.ndarray | None) -> str | None:
    if column is None:
        return None
    return short_digest([np.ascontiguousarray(column, dtype=np.int64).tobytes()])
