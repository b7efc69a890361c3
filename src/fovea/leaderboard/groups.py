"""Groups runs that differ only in their seed or fold, and computes the mean and deviation of their figures."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fovea.leaderboard.entries import REPEATED, Entry

MOST_KEYS = 3  # in a label, of those that tell two configs apart


class Figure(NamedTuple):
    """The mean of a figure over n runs, and its standard deviation, with n - 1 in the denominator; None for n = 1."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Group:
    """Runs of one experiment.

    Attributes:
        label: what tells it from the others: the overrides that not all runs have.
        entries: its runs.
    """

    label: str
    entries: Sequence[Entry]

    @property
    def first(self) -> Entry:
        """The first run that has a config, or the first of all."""
        return _first_begun(self.entries)

    @property
    def counted(self) -> Sequence[Entry]:
        """The runs whose figures count: those that are finished, or all if none is."""
        return [entry for entry in self.entries if entry.status == "finished"] or self.entries

    @property
    def best(self) -> Figure | None:
        """The monitor's best value."""
        return figure(entry.best for entry in self.counted)

    def test(self, name: str) -> Figure | None:
        """Return the test figure of this name."""
        return figure(entry.test.get(name) for entry in self.counted)

    @property
    def seconds(self) -> Figure | None:
        """The time of a run."""
        return figure(entry.seconds for entry in self.counted)

    @property
    def status(self) -> str:
        """`finished`, or `2 finished, 1 failed`."""
        counts: dict[str, int] = {}
        for entry in self.entries:
            counts[entry.status] = counts.get(entry.status, 0) + 1
        return next(iter(counts)) if len(self.entries) == 1 else ", ".join(f"{n} {name}" for name, n in counts.items())


def figure(values: Iterable[float | None]) -> Figure | None:
    """Return the figure of the values that are defined; None if there is none."""
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    return Figure(statistics.fmean(defined), statistics.stdev(defined) if len(defined) > 1 else None, len(defined))


def grouped(entries: Sequence[Entry]) -> list[Group]:
    """Return the groups, the best monitor first; in the order of the runs if the runs have different monitors.

    Runs are of one group if their configs differ in REPEATED only, and they read the same data unless these are
    divided into folds. A job that never began is of the group of its sweep's jobs with the same overrides; another run
    that never began is a group of its own, as its overrides are not known.
    """
    members: dict[Any, list[Entry]] = {}
    begun: dict[Any, set[Any]] = {}
    for entry in entries:
        if entry.config:
            begun.setdefault(_planned(entry), set()).add(_identity(entry))
    for entry in entries:
        same = begun.get(_planned(entry), set())
        identity = _identity(entry) if entry.config else next(iter(same)) if len(same) == 1 else _planned(entry)
        members.setdefault(identity, []).append(entry)
    labels = _labels(list(members.values()))
    groups = [Group(label, same) for label, same in zip(labels, members.values(), strict=True)]
    kinds = {(entry.monitor, entry.mode) for entry in entries if entry.best is not None}
    modes = {mode for _, mode in kinds}
    if len(kinds) != 1 or not modes < {"min", "max"}:
        return groups
    sign = -1 if modes == {"max"} else 1
    return sorted(groups, key=lambda group: (group.best is None, sign * group.best.mean if group.best else 0))


def shared_overrides(entries: Sequence[Entry]) -> list[str]:
    """Return the overrides that all runs have; none for a single run."""
    first, *others = [entry.overrides for entry in entries]
    return [word for key, word in first.items() if others and all(other.get(key) == word for other in others)]


def _planned(entry: Entry) -> Any:
    """Return what a sweep's jobs have in common that differ in their seed or fold only."""
    words = frozenset(word for key, word in entry.overrides.items() if key not in REPEATED)
    return (entry.folder.parent, words) if entry.overrides else entry.folder


def _identity(entry: Entry) -> Any:
    data = entry.data if entry.config.get("data.fold") is None else None
    return (data, *((key, repr(value)) for key, value in sorted(entry.config.items()) if key not in REPEATED))


def _labels(members: Sequence[Sequence[Entry]]) -> list[str]:
    """Return a label for each group; groups with the same overrides get the keys in which their configs differ."""
    shared = set(shared_overrides([entry for same in members for entry in same]))
    entries = [_first_begun(same) for same in members]
    labels = [_own(entry, shared) for entry in entries]
    for label in {label for label in labels if labels.count(label) > 1}:
        alike = [n for n, other in enumerate(labels) if other == label and entries[n].config]
        for n, words in zip(alike, _distinctions([entries[n] for n in alike]), strict=True):
            labels[n] = " ".join([label, *words]).strip()
    return [label or "defaults" for label in labels]


def _first_begun(entries: Sequence[Entry]) -> Entry:
    return next((entry for entry in entries if entry.config), entries[0])


def _own(entry: Entry, shared: set[str]) -> str:
    if not entry.config and not entry.overrides:
        return entry.name
    return " ".join(word for key, word in entry.overrides.items() if word not in shared and key not in REPEATED)


def _distinctions(entries: Sequence[Entry]) -> list[list[str]]:
    """Return the words that tell each run from the others, whose overrides are the same."""
    keys = _telling_keys(entries)
    words = [[f"{key}={value_text(e.config, key)}" for key in keys if key in e.config] for e in entries]
    counts = Counter(map(tuple, words))
    return [
        [*own, f"data {entry.data or 'unknown'}"] if counts[tuple(own)] > 1 else own
        for own, entry in zip(words, entries, strict=True)
    ]


def _telling_keys(entries: Sequence[Entry]) -> list[str]:
    """Return keys that tell the configs apart: MOST_KEYS that all have, and as many others as are necessary."""
    configs = [entry.config for entry in entries]
    everywhere = {key: all(key in config for config in configs) for key in different_keys(entries)}
    chosen: list[str] = []
    for key in sorted(everywhere, key=lambda key: (key != "split", not everywhere[key])):
        told_apart = len({tuple(repr(config.get(k)) for k in chosen) for config in configs}) == len(configs)
        if not told_apart or (everywhere[key] and len(chosen) < MOST_KEYS):
            chosen.append(key)
    return chosen


def value_text(config: Mapping[str, Any], key: str) -> str:
    """Return a value as it is typed in an override; empty if the config does not have the key."""
    value = config.get(key, "")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def different_keys(entries: Sequence[Entry]) -> list[str]:
    """Return the keys in which the configs of these runs differ, without REPEATED and runs that never began."""
    configs = [entry.config for entry in entries if entry.config]
    keys = dict.fromkeys(key for config in configs for key in config if key not in REPEATED)
    return [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
