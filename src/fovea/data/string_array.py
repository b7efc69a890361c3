"""Many strings without a Python object for each: ten million paths are two tensors, which all workers share."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
import torch
from torch import Tensor

CHUNK = 1 << 16


class StringArray(Sequence[str]):
    """N strings that begin alike, as one text: string n is `prefix` and then the bytes from starts[n] to starts[n + 1].

    Tensors, because those go to spawned workers as shared memory, and forked ones read them without ever writing to
    them, as they would to Python objects' reference counts. File names that are no UTF-8 come back as they were.

    Attributes:
        prefix: what all strings begin with.
        text: (T,) uint8.
        starts: (M + 1,) int32 or int64, into `text`.
        rows: (N,) int32, which of the M strings these are; None for all of them in order.
    """

    def __init__(self, prefix: str, text: Tensor, starts: Tensor, rows: Tensor | None = None) -> None:
        self.prefix, self.text, self.starts, self.rows = prefix, text, starts, rows

    @classmethod
    def of(cls, strings: Iterable[str], prefix: str = "") -> "StringArray":
        """`prefix` is cut off where every string begins with it; else none is."""
        strings = list(strings)
        if prefix and not all(string.startswith(prefix) for string in strings):
            prefix = ""
        grown = Growing()
        for first in range(0, len(strings), CHUNK):
            grown.add(*encode([string[len(prefix) :] for string in strings[first : first + CHUNK]]))
        return grown.strings(prefix)

    def __len__(self) -> int:
        return len(self.starts) - 1 if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, n: int) -> str: ...
    @overload
    def __getitem__(self, n: slice) -> "StringArray": ...
    def __getitem__(self, n: int | slice) -> "str | StringArray":
        if isinstance(n, slice):
            return self._slice(*n.indices(len(self)))
        if not -len(self) <= n < len(self):
            raise IndexError(n)
        row = n % len(self) if self.rows is None else int(self.rows[n])
        start, end = self.starts[row : row + 2].tolist()
        return self.prefix + os.fsdecode(self.text[start:end].numpy().tobytes())

    def __iter__(self) -> Iterator[str]:
        for text, starts in self.chunks():
            whole = text.tobytes()
            for start, end in pairwise(starts.tolist()):
                yield self.prefix + os.fsdecode(whole[start:end])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list's

    def __repr__(self) -> str:
        return f"StringArray({list(self[:3])}{'...' if len(self) > 3 else ''}, {len(self)} in all)"

    def take(self, places: Tensor) -> "StringArray":
        """Those at `places` (n,) int64, in that order; the text itself is shared."""
        rows = places.int() if self.rows is None else self.rows.index_select(0, places)
        return StringArray(self.prefix, self.text, self.starts, rows)

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(text, starts) of up to CHUNK strings at a time, without the prefix, and without a string for each."""
        text, starts = self.text.numpy(), self.starts.numpy()
        for first in range(0, len(self), CHUNK):
            last = min(first + CHUNK, len(self))
            if self.rows is None:
                yield text[starts[first] : starts[last]], starts[first : last + 1] - starts[first]
                continue
            rows = self.rows[first:last].numpy()
            lengths = starts[rows + 1] - starts[rows]
            ends = np.concatenate([[0], lengths.cumsum()])
            yield text[np.repeat(starts[rows] - ends[:-1], lengths) + np.arange(ends[-1])], ends

    def _slice(self, start: int, stop: int, step: int) -> "StringArray":
        """Neighbours need no rows of their own: only where their text starts."""
        if self.rows is None and step == 1:
            return StringArray(self.prefix, self.text, self.starts[start : max(stop, start) + 1])
        return self.take(torch.from_numpy(np.arange(start, stop, step)))


class Growing:
    """Columns of strings that are still to grow, by a folder's worth at a time.

    Byte arrays grow in place. Parts that are joined at the end would be there twice for a moment.
    """

    def __init__(self) -> None:
        self.text, self.starts = bytearray(), bytearray(8)

    def add(self, text: bytes | memoryview, lengths: np.ndarray) -> None:
        """n strings, one after the other in `text`; `lengths` (n,) in bytes."""
        self.starts += (len(self.text) + lengths.cumsum(dtype=np.int64)).data.cast("B")
        self.text += text

    def strings(self, prefix: str) -> StringArray:
        """All that were added; nothing can be added after this."""
        text = torch.frombuffer(self.text, dtype=torch.uint8) if self.text else torch.empty(0, dtype=torch.uint8)
        starts = torch.frombuffer(self.starts, dtype=torch.int64)
        return StringArray(prefix, text, starts.int() if len(text) < 1 << 31 else starts)


def encode(strings: Sequence[str], before: str = "") -> tuple[bytes, np.ndarray]:
    """The text of all strings, each with `before` in front of it, and their lengths (n,) in bytes."""
    text = os.fsencode("".join([before + string for string in strings]))
    parts = strings if text.isascii() else [os.fsencode(string) for string in strings]
    return text, np.fromiter(map(len, parts), np.int32, len(parts)) + np.int32(len(os.fsencode(before)))


def join(several: Sequence[StringArray]) -> StringArray:
    """One after the other; the prefix is theirs where all have the same."""
    prefixes = {strings.prefix for strings in several}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    grown = Growing()
    for strings in several:
        for text, starts in strings.chunks():
            if strings.prefix == prefix:
                grown.add(text.data, np.diff(starts))
            else:
                grown.add(*encode([os.fsdecode(text[a:b].tobytes()) for a, b in pairwise(starts)], strings.prefix))
    return grown.strings(prefix)
