"""Digests of a dataset's images, labels and classes, to notice later that the data changed.

A digest does not depend on the folder, and a store has the same digests as the files that it was packed from.
"""

import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fovea.data.index import Index
from fovea.data.scan.scan import threaded_map
from fovea.data.string_array import StringArray
from fovea.files import sha256, short_digest

MAX_BYTES, MAX_FILES = 256 << 20, 100_000  # file contents are read up to this size, in about a second
CHUNK = 256  # files
NO_FILE = -1


class Difference(NamedTuple):
    """How two records differ; `certain` is False if the images may still be the same."""

    text: str
    certain: bool


def record(class_names: Sequence[str], splits: Mapping[str, Index], root: str | None) -> dict[str, Any]:
    """Describe a dataset so that `compare` can find changes. Takes 3 s for a million files on a local disk.

    Returns:
        images: `fingerprint`.
        counts: the number of images of each split.
        bytes: digest of the images' sizes in bytes.
        contents: digest of their checksums; None if the files exceed MAX_BYTES or MAX_FILES.
        times: digest of the files' modification times in ns; None for a store.
    """
    sizes, times, sums = _states(list({id(index): index for index in splits.values()}.values()))
    return {
        "images": fingerprint(class_names, splits, root),
        "counts": {split: len(index) for split, index in splits.items()},
        "bytes": _digest(sizes),
        "contents": _digest(sums),
        "times": _digest(times),
    }


def compare(old: dict[str, Any], new: dict[str, Any]) -> Difference | None:
    """Return the first difference between two records, or None; keys that `old` lacks are not compared.

    A record may have `corrections`, what data.corrections changed. They are the data's own labels once they are
    applied, so they are named as the reason of a difference and are none by themselves.
    """
    found = _first_difference(new | old, new)
    if found and found.certain and (new | old).get("corrections") != new.get("corrections"):
        return Difference(f"{found.text}; data.corrections has changed", certain=True)
    return found


def _first_difference(old: dict[str, Any], new: dict[str, Any]) -> Difference | None:
    for split, count in old["counts"].items():
        new_count = new["counts"].get(split, 0)
        if count != new_count:
            return Difference(f"the {split} images: {count:,} then, {new_count:,} now", certain=True)
    if old["images"] != new["images"]:
        return Difference("other images, labels or classes, but the same number of images", certain=True)
    if old["bytes"] != new["bytes"]:
        return Difference("the sizes of the image files changed", certain=True)
    if old["contents"] and new["contents"]:
        changed = Difference("the contents of the image files changed", certain=True)
        return changed if old["contents"] != new["contents"] else None
    if old["times"] and new["times"] and old["times"] != new["times"]:
        return Difference("only the files' modification times differ: they were copied or changed", certain=False)
    return None


def fingerprint(class_names: Sequence[str], splits: Mapping[str, Index], root: str | None) -> str:
    """Digest the class names and each split's image names (relative to `root`) and targets: 16 hexadecimal digits.

    Pixels are not read. Takes two seconds for ten million images below `root`.
    """
    return short_digest(_content(class_names, splits, root))


def _content(class_names: Sequence[str], splits: Mapping[str, Index], root: str | None) -> Iterator[bytes]:
    yield os.fsencode("\n".join(class_names))
    for split, index in sorted(splits.items()):
        yield f"\n{split} {len(index)}\n".encode()
        names = index.paths if index.store else relative(index.paths, root)  # names in a store are relative
        yield sha256(text.tobytes() for text, _ in names.chunks())
        yield sha256(np.diff(starts).astype(np.int64).tobytes() for _, starts in names.chunks())
        yield np.ascontiguousarray(index.targets.numpy()).tobytes()


def relative(names: StringArray, root: str | None) -> StringArray:
    """Make the names relative to `root`; a name outside of `root` is not changed."""
    prefix = os.path.join(Path(root).expanduser(), "") if root else ""
    if names.prefix == prefix:
        return StringArray("", names.text, names.starts, names.rows)
    return StringArray.of([name.removeprefix(prefix) for name in names])


def _states(indices: Sequence[Index]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return sizes, modification times and CRC-32s of all images, each (N,) int64 or None if unknown."""
    if indices[0].store:
        sums = [index.store.sums(index.rows) for index in indices if index.store]
        lengths, checksums = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*sums, strict=True))
        return lengths, None, checksums
    sizes, times = np.concatenate([_map_paths(_state, index.paths) for index in indices]).T
    if len(sizes) > MAX_FILES or sizes.sum() > MAX_BYTES:
        return sizes, times, None
    return sizes, times, np.concatenate([_map_paths(_checksum, index.paths) for index in indices])


def _map_paths(function: Callable[[str], Any], paths: StringArray) -> np.ndarray:
    """Apply `function` to every path, a chunk per thread; returns int64."""
    starts = range(0, len(paths), CHUNK)
    chunks = threaded_map(lambda start: np.array([function(p) for p in paths[start : start + CHUNK]], np.int64), starts)
    return np.concatenate(list(chunks))


def _state(path: str) -> tuple[int, int]:
    """Return (size, modification time); NO_FILE twice if it is not a regular file."""
    try:
        state = os.stat(path)
    except OSError:
        return NO_FILE, NO_FILE
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else (NO_FILE, NO_FILE)


def _checksum(path: str) -> int:
    """Return the CRC-32 of a file, which a store keeps too; NO_FILE if it cannot be read."""
    if _state(path)[0] == NO_FILE:  # reading a device or a pipe might never end
        return NO_FILE
    try:
        with open(path, "rb") as file:
            return zlib.crc32(file.read())
    except OSError:
        return NO_FILE


def _digest(column: np.ndarray | None) -> str | None:
    if column is None:
        return None
    return short_digest([np.ascontiguousarray(column, dtype=np.int64).tobytes()])
