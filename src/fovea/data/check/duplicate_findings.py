"""Lists images that are equal, look the same or are plain, as pairs within and across splits."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fovea.data.check.clusters import Cluster, clusters_of, label_numbers
from fovea.data.check.difference_hash import difference_hashes
from fovea.data.check.findings import Finding, Kind
from fovea.data.check.image_facts import ImageFacts
from fovea.data.check.near_duplicates import correlations, is_plain, near_clusters
from fovea.data.class_names import describe_label
from fovea.data.index import Task

LEVELS = 16  # plain images of the same 16 gray levels are one cluster


class Groups(NamedTuple):
    """The clusters of each kind."""

    exact: list[Cluster]
    near: list[Cluster]
    plain: list[Cluster]


class Duplicates:
    """Groups the images of a dataset by their facts and describes the groups."""

    def __init__(self, facts: ImageFacts, task: Task, class_names: Sequence[str]) -> None:
        self.facts, self.task, self.class_names = facts, task, class_names
        self.splits = facts.split_numbers
        self.labels = label_numbers([index.targets.numpy() for index in facts.splits.values()])

    def groups(self, distance: int | None, correlation: float) -> Groups:
        """Return all clusters. Plain images are neither exact nor near duplicates.

        Args:
            distance: of the hashes of near-duplicates, in bits; None: near-duplicates are not searched.
            correlation: the least correlation of their gray copies.
        """
        plain = is_plain(self.facts.grays)
        kept = np.flatnonzero(self.facts.readable & ~plain)
        exact = self._clusters(self.facts.digests[kept], kept)
        near = [] if distance is None else self._near(kept, exact, distance, correlation)
        plain_ones = np.flatnonzero(self.facts.readable & plain)
        levels = self.facts.grays[plain_ones].mean((1, 2)) // LEVELS
        return Groups(exact, near, self._clusters(levels, plain_ones, least=1))

    def _near(self, kept: np.ndarray, exact: list[Cluster], distance: int, correlation: float) -> list[Cluster]:
        """Group one image of each exact cluster and all others."""
        copies = np.zeros(len(self.facts), bool)
        for cluster in exact:
            copies[cluster.members[1:]] = True
        kept = kept[~copies[kept]]
        grays = self.facts.grays[kept]
        return self._clusters(near_clusters(difference_hashes(grays), grays, distance, correlation), kept)

    def _clusters(self, keys: np.ndarray, numbers: np.ndarray, least: int = 2) -> list[Cluster]:
        return clusters_of(keys, numbers, self.splits, self.labels, least)

    def findings(self, groups: Groups) -> list[Finding]:
        """Return a finding for each pair: those with different labels first, then those across splits."""
        exact = [pair for cluster in groups.exact for pair in self._pairs("exact duplicate", cluster)]
        near = [pair for cluster in groups.near for pair in self._pairs("near duplicate", cluster)]
        ranked = sorted([*exact, *near], key=lambda pair: pair[0])
        return [finding for _, finding in ranked] + [
            finding for cluster in groups.plain for _, finding in self._pairs("plain image", cluster)
        ]

    def _pairs(self, kind: Kind, cluster: Cluster) -> list[tuple[tuple[bool, bool], Finding]]:
        """Return (rank, finding) of the first image of a cluster with each other one that is listed."""
        first, listed = int(cluster.members[0]), cluster.pairs(self.splits, self.labels)
        place = self.facts.place(first)
        if len(cluster.members) == 1:
            return [((True, True), Finding(kind, *place))]
        found = [
            (
                self._rank(first, other),
                Finding(kind, *place, *self.facts.place(other), self._detail(kind, first, other)),
            )
            for other in listed
        ]
        more = len(cluster.members) - 1 - len(listed)
        if more:
            found.append(((True, True), Finding(kind, *place, detail=f"and {more:,} more images of this cluster")))
        return found

    def _rank(self, one: int, other: int) -> tuple[bool, bool]:
        return bool(self.labels[one] == self.labels[other]), bool(self.splits[one] == self.splits[other])

    def _detail(self, kind: Kind, one: int, other: int) -> str:
        parts = []
        if self.labels[one] != self.labels[other]:
            parts.append(f"labels: {self._label(one)} and {self._label(other)}")
        if kind == "near duplicate":
            grays = self.facts.grays[[one, other]]
            bits = int(np.bitwise_count(np.bitwise_xor(*difference_hashes(grays))))
            parts.append(f"correlation {correlations(grays[:1], grays[1:])[0]:.3f}, {bits} of 64 bits differ")
        return "; ".join(parts)

    def _label(self, number: int) -> str:
        for index in self.facts.splits.values():
            if number < len(index):
                break
            number -= len(index)
        return describe_label(self.task, self.class_names, index.targets[number].reshape(-1).tolist())
