"""Finds and reads the column of a table that contains each row's split."""

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
FLAGS = {"isvalid": "val", "isval": "val", "isvalidation": "val", "istest": "test"}  # false: train
BOOLEANS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}


def is_split_name(column: str) -> bool:
    """Return whether a column name usually means the split, ignoring case: `Split`, `SET`, `is_valid`."""
    return _plain(column) in NAMES or _plain(column) in FLAGS


class SplitColumns:
    """The columns that may contain the split: filled row by row with `add`, then evaluated by `decide`.

    A column can be read as a split if all its values are words for splits, or true and false in a column such as
    `is_valid`.
    """

    def __init__(
        self,
        header: Sequence[str],
        others: Sequence[int],
        chosen: int | None,
        disabled: bool,
        values: Mapping[str, str],
    ) -> None:
        """
        Args:
            header: the column names.
            others: the columns that are neither image nor label.
            chosen: the column that the config chooses as the split, if any.
            disabled: whether the config disables the search for a split column.
            values: the config's map of a column's values to splits, if they are not usual words.
        """
        self.header, self.chosen, self.disabled, self.values = header, chosen, disabled, values
        self.columns = {k: list[str]() for k in others}

    def add(self, row: Sequence[str]) -> None:
        for k in tuple(self.columns):
            value = sys.intern(row[k].strip())  # saves memory, as few values repeat in many rows
            if not self._is_named_split(k) and not _split_of_value(value):
                del self.columns[k]
            else:
                self.columns[k].append(value)

    def decide(self, file: Path, rows: int) -> list[str]:
        """Return the split of each row, log the column it is from, and warn about unused columns that look like one.

        Raises:
            ValueError: a column that looks like the split has unknown values, or several columns look like it.
        """
        candidates = [k for k in self.columns if self._is_named_split(k) or self._has_several_splits(k)]
        column = self._choose(file, candidates)
        for k in candidates:
            if k != column:
                log.warning(
                    "%s: column %r looks like a split and is not used: %s", file, self.header[k], self._describe(k)
                )
        if column is None:
            log.info("%s: no column contains the split, so every row is train", file)
            return ["train"] * rows
        log.info("%s: column %r is the split: %s", file, self.header[column], self._describe(column))
        splits = self._splits_by_value(column)
        return [splits[value] for value in self.columns[column]]

    def _is_named_split(self, column: int) -> bool:
        return column == self.chosen or is_split_name(self.header[column])

    def _has_several_splits(self, column: int) -> bool:
        return len(set(self._splits_by_value(column).values())) > 1

    def _choose(self, file: Path, candidates: list[int]) -> int | None:
        if self.chosen is not None:
            self._check_readable(file, self.chosen)
            return self.chosen
        if self.disabled or not candidates:
            return None
        readable = [k for k in candidates if self._is_readable(k)]
        if len(readable) > 1 or (readable and not self._is_named_split(readable[0])):
            columns = "".join(f"\n  {self.header[k]!r}: {self._describe(k)}" for k in readable[:3])
            choices = " or ".join(f"'data.read.split_column={self.header[k]}'" for k in readable[:3])
            raise ValueError(
                f"{file}: is one of these columns the split?{columns}\n"
                f"Set {choices}; data.read.split_column=false makes every row train."
            )
        self._check_readable(file, (readable or candidates)[0])
        return readable[0]

    def _is_readable(self, column: int) -> bool:
        return len(self._splits_by_value(column)) == len(set(self.columns[column]))

    def _check_readable(self, file: Path, column: int) -> None:
        splits, name = self._splits_by_value(column), self.header[column]
        unknown = Counter(value for value in self.columns[column] if value not in splits)
        if not unknown:
            return
        listed = ", ".join(f"{value!r} ({count} rows)" for value, count in unknown.most_common(5))
        all_values = sorted(set(self.columns[column]))[:8]
        values = ", ".join(f"{value}: {splits.get(value, split_of(value) or '?')}" for value in all_values)
        raise ValueError(
            f"{file}, column {name!r}: {len(unknown)} values are not a split: {listed}\n"
            f"Map them to splits: 'data.read.split_column={name}' 'data.read.split_values={{{values}}}'\n"
            "(train, val or test for each), or data.read.split_column=false to use no column."
        )

    def _splits_by_value(self, column: int) -> dict[str, str]:
        """Return value -> split for the column's values that can be read as a split."""
        return {value: split for value in set(self.columns[column]) if (split := self._split(column, value))}

    def _split(self, column: int, value: str) -> str | None:
        if self.values:
            return self.values.get(value.casefold())
        flag = FLAGS.get(_plain(self.header[column]))
        if flag and value.casefold() in BOOLEANS:
            return flag if BOOLEANS[value.casefold()] else "train"
        return _split_of_value(value)

    def _describe(self, column: int) -> str:
        counts, splits = Counter(self.columns[column]), self._splits_by_value(column)
        parts = []
        for value, count in counts.most_common(6):
            split = splits.get(value, "not a split")
            parts.append(f"{count:,} {value!r}" + (f" ({split})" if split != value else ""))
        return ", ".join(parts) + (", ..." if len(counts) > 6 else "")


@lru_cache(1024)
def _split_of_value(value: str) -> str | None:
    """Return the split that the whole value stands for; one word of a longer text does not count."""
    return split_of(value, whole=True)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
