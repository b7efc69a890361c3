"""Finds images that look the same: their difference hashes differ in few bits, and their gray copies correlate."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BITS = 64
LEAST_DEVIATION = 3.0  # of 255; a gray copy whose standard deviation is smaller is plain
BLOCK = 1 << 18  # images or pairs that are compared at a time


def is_plain(grays: np.ndarray) -> np.ndarray:
    """Return (N,) bool: whether an image is nearly of one color, by its gray copy (N, H, W) uint8."""
    blocks = (grays[first : first + BLOCK].astype(np.float32) for first in range(0, len(grays), BLOCK))
    return np.concatenate([np.empty(0, bool), *(block.std((1, 2)) < LEAST_DEVIATION for block in blocks)])


def near_clusters(hashes: np.ndarray, grays: np.ndarray, distance: int, correlation: float) -> np.ndarray:
    """Return the number of the cluster of each image, (N,) int32.

    Two images are near if their hashes differ in at most `distance` bits and the correlation of their gray copies is at
    least `correlation`. A cluster is a connected component of this relation. Memory grows with N, not with the number
    of pairs.

    Args:
        hashes: (N,) uint64.
        grays: (N, H, W) uint8, none of them plain.
        distance: in [0, BITS).
        correlation: in [-1, 1].
    """
    clusters = Clusters(len(hashes))
    for first, second in candidate_pairs(hashes, distance, clusters):
        near = correlations(grays[first], grays[second]) >= correlation
        clusters.join(first[near], second[near])
    clusters.update()
    return clusters.numbers


class Clusters:
    """The connected components of N images; pairs are collected, because an update takes time.

    Attributes:
        numbers: (N,) int32, the cluster of each image at the last update.
        updates: how often `numbers` was updated.
    """

    def __init__(self, count: int) -> None:
        self.numbers, self.updates = np.arange(count, dtype=np.int32), 0
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Join the clusters of the images in each pair, at the next update."""
        self._pairs.append((first, second))
        if sum(len(pair[0]) for pair in self._pairs) > BLOCK:
            self.update()

    def update(self) -> None:
        """Join the clusters of all pairs since the last update."""
        if self._pairs:
            first, second = (self.numbers[np.concatenate(side)] for side in zip(*self._pairs, strict=True))
            edges = coo_array((np.ones(len(first), bool), (first, second)), (len(self.numbers), len(self.numbers)))
            components: np.ndarray = connected_components(edges, directed=False)[1]
            self.numbers = components[self.numbers].astype(np.int32)
            self._pairs, self.updates = [], self.updates + 1


def candidate_pairs(hashes: np.ndarray, distance: int, clusters: Clusters) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield arrays (first, second) of the pairs of hashes (N,) uint64 that differ in at most `distance` bits.

    Pairs that are in one cluster may be left out, and others may come several times. The bits are divided into
    distance + 2 bands. Hashes that differ in at most `distance` bits are equal in two bands or more, so for every two
    bands the hashes are sorted by these and compared where these are equal. With 8 bands and random hashes that is one
    pair in 65,536 for each two bands.
    """
    bands = [sum(1 << int(bit) for bit in band) for band in np.array_split(np.arange(BITS), distance + 2)]
    for one, other in combinations(bands, 2):
        keys = hashes & np.uint64(one | other)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        for left, right in _close_pairs(keys[order], hashes[order], order, distance, clusters):
            first, second = order[left], order[right]
            apart = clusters.numbers[first] != clusters.numbers[second]
            yield first[apart], second[apart]
        clusters.update()


def _close_pairs(
    keys: np.ndarray, hashes: np.ndarray, order: np.ndarray, distance: int, clusters: Clusters
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions (left, right) with equal keys and close hashes; `keys` are sorted.

    Each position is compared with the next one, then with the one after that, and so on, while the key is the same and
    the rest of the positions with this key is not one cluster.
    """
    ends = _next_change(keys)  # (N,) of each position's run of equal keys
    left, step, updates = np.arange(len(keys)), 1, -1
    while len(left := left[left + step < ends[left]]):
        if clusters.updates != updates:
            left, updates = left[_next_change(clusters.numbers[order])[left] < ends[left]], clusters.updates
        for part in np.array_split(left, -(-len(left) // BLOCK) or 1):
            close = part[np.bitwise_count(hashes[part] ^ hashes[part + step]) <= distance]
            if len(close):
                yield close, close + step
        step += 1


def _next_change(values: np.ndarray) -> np.ndarray:
    """Return for each position the next one whose value differs from its predecessor's, (N,); N if there is none."""
    places = np.full(len(values), len(values))
    changes = np.flatnonzero(values[1:] != values[:-1])
    places[changes] = changes + 1
    return np.minimum.accumulate(places[::-1])[::-1]


def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of the pixels of each pair, (M,) float64; both are (M, H, W) uint8."""
    if not len(one):
        return np.empty(0)
    a, b = (side.reshape(len(side), -1).astype(np.float32) for side in (one, other))
    a, b = (side - side.mean(1, keepdims=True) for side in (a, b))
    return (a * b).sum(1, dtype=float) / np.sqrt((a * a).sum(1, dtype=float) * (b * b).sum(1, dtype=float))
