"""A sequence of strings stored as two tensors, so that workers share ten million paths instead of copying them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
import torch
from torch import Tensor

CHUNK = 1 << 16


class StringArray(Sequence[str]):
    """N strings with a common prefix: string n is `prefix` followed by the bytes text[starts[n] : starts[n + 1]].

    Spawned workers receive tensors as shared memory. Forked workers share their pages; with Python strings they would
    copy the pages, because reading a string changes its reference count. File names that are not UTF-8 are preserved.

    Attributes:
        prefix: the common beginning of all strings.
        text: (T,) uint8.
        starts: (M + 1,) int32 or int64, offsets into `text`.
        rows: (N,) int32, which of the M strings these are; None for all of them in order.
    """

    def __init__(self, prefix: str, text: Tensor, starts: Tensor, rows: Tensor | None = None) -> None:
        self.prefix, self.text, self.starts, self.rows = prefix, text, starts, rows

    @classmethod
    def of(cls, strings: Iterable[str], prefix: str = "") -> "StringArray":
        """Store the strings; `prefix` is used only if every string begins with it."""
        strings = list(strings)
        if prefix and not all(string.startswith(prefix) for string in strings):
            prefix = ""
        builder = StringArrayBuilder()
        for first in range(0, len(strings), CHUNK):
            builder.add(*encode([string[len(prefix) :] for string in strings[first : first + CHUNK]]))
        return builder.build(prefix)

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

    __hash__ = None  # type: ignore[assignment]  # not hashable, like a list

    def __repr__(self) -> str:
        return f"StringArray({list(self[:3])}{'...' if len(self) > 3 else ''}, {len(self)} in all)"

    def take(self, positions: Tensor) -> "StringArray":
        """Return the strings at `positions` (n,) int64, in that order; the text is shared, not copied."""
        rows = positions.int() if self.rows is None else self.rows.index_select(0, positions)
        return StringArray(self.prefix, self.text, self.starts, rows)

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (text, starts) of up to CHUNK strings at a time, without the prefix and without making strings."""
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
        """Slice; consecutive strings need no `rows`, only their part of `starts`."""
        if self.rows is None and step == 1:
            return StringArray(self.prefix, self.text, self.starts[start : max(stop, start) + 1])
        return self.take(torch.from_numpy(np.arange(start, stop, step)))


class StringArrayBuilder:
    """Builds a StringArray from chunks of strings.

    Byte arrays grow in place; concatenating a list of parts at the end would need the memory twice.
    """

    def __init__(self) -> None:
        self.text, self.starts = bytearray(), bytearray(8)

    def add(self, text: bytes | memoryview, lengths: np.ndarray) -> None:
        """Append n strings, given as their concatenated text and their `lengths` (n,) in bytes."""
        self.starts += (len(self.text) + lengths.cumsum(dtype=np.int64)).data.cast("B")
        self.text += text

    def build(self, prefix: str) -> StringArray:
        """Return all added strings, each after `prefix`; nothing can be added afterwards."""
        text = torch.frombuffer(self.text, dtype=torch.uint8) if self.text else torch.empty(0, dtype=torch.uint8)
        starts = torch.frombuffer(self.starts, dtype=torch.int64)
        return StringArray(prefix, text, starts.int() if len(text) < 1 << 31 else starts)


def encode(strings: Sequence[str], prefix: str = "") -> tuple[bytes, np.ndarray]:
    """Encode all strings, each with `prefix` in front: their concatenated text, and their lengths (n,) in bytes."""
    text = os.fsencode("".join([prefix + string for string in strings]))
    parts = strings if text.isascii() else [os.fsencode(string) for string in strings]
    return text, np.fromiter(map(len, parts), np.int32, len(parts)) + np.int32(len(os.fsencode(prefix)))


def join(arrays: Sequence[StringArray]) -> StringArray:
    """Concatenate string arrays; a prefix that all of them have is kept."""
    prefixes = {strings.prefix for strings in arrays}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    builder = StringArrayBuilder()
    for strings in arrays:
        for text, starts in strings.chunks():
            if strings.prefix == prefix:
                builder.add(text.data, np.diff(starts))
            else:
                builder.add(*encode([os.fsdecode(text[a:b].tobytes()) for a, b in pairwise(starts)], strings.prefix))
    return builder.build(prefix)
