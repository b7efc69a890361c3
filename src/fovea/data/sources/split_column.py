"""The column of a table that says which split a row belongs to."""

import logging
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from fovea.data.scan.split_names import split_of

log = logging.getLogger(__name__)

NAMES = frozenset({"split", "set", "subset", "partition", "phase", "fold", "usage", "istrain", "istraining"})
FLAGS = {"isvalid": "val", "isval": "val", "isvalidation": "val", "istest": "test"}  # the others are train
BOOLEANS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}


def is_split_name(column: str) -> bool:
    """Whether a column's name is a usual one for the split, without regard to case: `Split`, `SET`, `is_valid`."""
    return _plain(column) in NAMES or _plain(column) in FLAGS


class SplitColumns:
    """The columns that may say the split: filled row by row, and decided on at the end.

    A column is understood where its values are words for splits, or true and false in one such as `is_valid`.
    """

    def __init__(
        self, header: Sequence[str], others: Sequence[int], typed: int | None, unused: bool, values: Mapping[str, str]
    ) -> None:
        """
        Args:
            header: the column names.
            others: the columns that are neither image nor label.
            typed: the column that is said to be the split.
            unused: whether it is said that no column is.
            values: what a column's values stand for, where they are no usual words.
        """
        self.header, self.typed, self.unused, self.values = header, typed, unused, values
        self.columns = {k: list[str]() for k in others}

    def add(self, row: Sequence[str]) -> None:
        for k in tuple(self.columns):
            value = sys.intern(row[k].strip())  # few, of many rows
            if not self._is_candidate(k) and not _word(value):
                del self.columns[k]
            else:
                self.columns[k].append(value)

    def decide(self, file: Path, rows: int) -> list[str]:
        """The split of each row; says which column it is from, and warns of others that look like one.

        Raises:
            ValueError: a column that looks like the split is not understood, or several do.
        """
        candidates = [k for k in self.columns if self._is_candidate(k) or len(set(self._read(k).values())) > 1]
        chosen = self._choose(file, candidates)
        for k in candidates:
            if k != chosen:
                log.warning("%s: column %r looks like a split and is not used: %s", file, self.header[k], self._told(k))
        if chosen is None:
            log.info("%s: no column says the split, so every row is train", file)
            return ["train"] * rows
        log.info("%s: column %r is the split: %s", file, self.header[chosen], self._told(chosen))
        meaning = self._read(chosen)
        return [meaning[value] for value in self.columns[chosen]]

    def _is_candidate(self, column: int) -> bool:
        return column == self.typed or is_split_name(self.header[column])

    def _choose(self, file: Path, candidates: list[int]) -> int | None:
        if self.typed is not None:
            self._check_understood(file, self.typed)
            return self.typed
        if self.unused or not candidates:
            return None
        understood = [k for k in candidates if self._is_understood(k)]
        if len(understood) > 1 or (understood and not self._is_candidate(understood[0])):
            told = "".join(f"\n  {self.header[k]!r}: {self._told(k)}" for k in understood[:3])
            raise ValueError(
                f"{file}: is the split of the rows in one of these columns?{told}\n{self._remedy(understood)}"
            )
        self._check_understood(file, (understood or candidates)[0])
        return understood[0]

    def _is_understood(self, column: int) -> bool:
        return len(self._read(column)) == len(set(self.columns[column]))

    def _check_understood(self, file: Path, column: int) -> None:
        meaning, name = self._read(column), self.header[column]
        unknown = Counter(value for value in self.columns[column] if value not in meaning)
        if not unknown:
            return
        told = ", ".join(f"{value!r} ({count} rows)" for value, count in unknown.most_common(5))
        values = ", ".join(
            f"{value}: {meaning.get(value, split_of(value) or '?')}" for value in self._different(column)
        )
        raise ValueError(
            f"{file}, column {name!r}: {len(unknown)} values are no split: {told}\n"
            f"Say what they stand for: 'data.read.split_column={name}' 'data.read.split_values={{{values}}}'\n"
            "(train, val or test for each), or data.read.split_column=false to use no column."
        )

    def _remedy(self, columns: list[int]) -> str:
        typed = " or ".join(f"'data.read.split_column={self.header[k]}'" for k in columns[:3])
        return f"Give {typed}; data.read.split_column=false takes every row for train."

    def _read(self, column: int) -> dict[str, str]:
        """value -> split, of the values that are understood."""
        return {value: split for value in set(self.columns[column]) if (split := self._split(column, value))}

    def _split(self, column: int, value: str) -> str | None:
        if self.values:
            return self.values.get(value.casefold())
        flag = FLAGS.get(_plain(self.header[column]))
        if flag and value.casefold() in BOOLEANS:
            return flag if BOOLEANS[value.casefold()] else "train"
        return _word(value)

    def _different(self, column: int) -> list[str]:
        return sorted(set(self.columns[column]))[:8]

    def _told(self, column: int) -> str:
        counts, meaning = Counter(self.columns[column]), self._read(column)
        parts = []
        for value, count in counts.most_common(6):
            split = meaning.get(value, "not understood")
            parts.append(f"{count:,} {value!r}" + (f" ({split})" if split != value else ""))
        return ", ".join(parts) + (", ..." if len(counts) > 6 else "")


@lru_cache(1024)
def _word(value: str) -> str | None:
    """The split that the value alone names; one of many words of which one does is not understood."""
    return split_of(value, whole=True)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
