"""Groups images that are equal, look the same or are plain, and lists the pairs of each group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_MEMBERS = 100  # of a cluster that are listed


@dataclass(frozen=True, eq=False)
class Cluster:
    """Two or more images, or a single plain one.

    Attributes:
        members: their numbers, in rising order.
        across: they are in more than one split.
        mixed: they have more than one label.
    """

    members: np.ndarray
    across: bool
    mixed: bool

    def pairs(self, splits: np.ndarray, labels: np.ndarray) -> list[int]:
        """Return up to MOST_MEMBERS members to compare with the first one: other labels first, then other splits.

        Args:
            splits: (N,) the split of each image.
            labels: (N,) a number for each image's label.
        """
        first, others = self.members[0], self.members[1:]
        same_label, same_split = labels[others] == labels[first], splits[others] == splits[first]
        return others[np.lexsort((others, same_split, same_label))][:MOST_MEMBERS].tolist()


def clusters_of(
    keys: np.ndarray, numbers: np.ndarray, splits: np.ndarray, labels: np.ndarray, least: int = 2
) -> list[Cluster]:
    """Group the images that have the same key; clusters with several labels come first, then those of several splits.

    Args:
        keys: (M,) of some images.
        numbers: (M,) the numbers of these images, rising.
        splits: (N,) the split of each image.
        labels: (N,) a number for each image's label.
        least: the number of images of the smallest cluster to return.
    """
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1])) if len(keys) else np.empty(0, int)
    lengths = np.diff(np.append(starts, len(keys)))
    large = lengths >= least
    members = [numbers[order[a : a + n]] for a, n in zip(starts[large].tolist(), lengths[large].tolist(), strict=True)]
    found = [Cluster(m, len(np.unique(splits[m])) > 1, len(np.unique(labels[m])) > 1) for m in members]
    return sorted(found, key=lambda cluster: (not cluster.mixed, not cluster.across, cluster.members[0]))


def label_numbers(targets: Sequence[np.ndarray]) -> np.ndarray:
    """Return a number for each image, equal for equal labels, (N,) int64.

    Args:
        targets: of each split, (n,) class indices or (n, K) labels.
    """
    joined = np.concatenate(targets)
    return joined.astype(np.int64) if joined.ndim == 1 else np.unique(joined, axis=0, return_inverse=True)[1].ravel()
