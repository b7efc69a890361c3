"""Groups runs that differ only in their seed or fold, and computes the mean and deviation of their figures."""

import statistics
from collections.abc import Iterable, Sequence
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
    divided into folds. A run that never began is compared by its overrides.
    """
    members: dict[Any, list[Entry]] = {}
    for entry in entries:
        members.setdefault(_identity(entry), []).append(entry)
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


def _identity(entry: Entry) -> Any:
    if not entry.config:
        return frozenset((key, word) for key, word in entry.overrides.items() if key not in REPEATED)
    data = entry.data if entry.config.get("data.fold") is None else None
    return (data, *((key, repr(value)) for key, value in sorted(entry.config.items()) if key not in REPEATED))


def _labels(members: Sequence[Sequence[Entry]]) -> list[str]:
    """Return a label for each group; groups with the same overrides get the keys in which their configs differ."""
    shared = set(shared_overrides([entry for same in members for entry in same]))
    labels = [_own(same[0], shared) for same in members]
    for label in {label for label in labels if labels.count(label) > 1}:
        alike = [n for n, other in enumerate(labels) if other == label]
        different = different_keys([members[n][0] for n in alike])
        for n in alike:
            config = members[n][0].config
            words = [f"{key}={config.get(key)}" for key in different[:MOST_KEYS]]
            data = [f"data {members[n][0].data}"] if not different else []
            labels[n] = " ".join([label, *words, *data]).strip()
    return [label or "defaults" for label in labels]


def _own(entry: Entry, shared: set[str]) -> str:
    return " ".join(word for key, word in entry.overrides.items() if word not in shared and key not in REPEATED)


def different_keys(entries: Sequence[Entry]) -> list[str]:
    """Return the keys in which the configs of these runs differ, without REPEATED and runs that never began."""
    configs = [entry.config for entry in entries if entry.config]
    keys = dict.fromkeys(key for config in configs for key in config if key not in REPEATED)
    return [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
