"""A digest of what a dataset holds: the same for its files and for a store packed from them, wherever they lie."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fovea.data.index import Index
from fovea.data.strings import Strings


def fingerprint(class_names: Sequence[str], splits: Mapping[str, Index], root: str | None) -> str:
    """16 hexadecimal digits of the class names, and of each split's images: their names below `root`, their targets.

    Of the pixels nothing. Two seconds and no string an image for ten million images that lie below `root`.
    """
    digest = hashlib.sha256(os.fsencode("\n".join(class_names)))
    for split, index in sorted(splits.items()):
        digest.update(f"\n{split} {len(index)}\n".encode())
        names = index.paths if index.store else relative(index.paths, root)  # a store's are relative already
        for part in (_text(names), _lengths(names)):
            digest.update(part)
        digest.update(np.ascontiguousarray(index.targets.numpy()).tobytes())
    return digest.hexdigest()[:16]


def relative(names: Strings, root: str | None) -> Strings:
    """The names below `root`, without it; one that lies elsewhere stays as it is."""
    prefix = os.path.join(Path(root).expanduser(), "") if root else ""
    if names.prefix == prefix:
        return Strings("", names.text, names.starts, names.rows)
    return Strings.of([name.removeprefix(prefix) for name in names])


def _text(names: Strings) -> bytes:
    digest = hashlib.sha256()
    for text, _ in names.chunks():
        digest.update(text.tobytes())
    return digest.digest()


def _lengths(names: Strings) -> bytes:
    digest = hashlib.sha256()
    for _, starts in names.chunks():
        digest.update(np.diff(starts).astype(np.int64).tobytes())
    return digest.digest()
