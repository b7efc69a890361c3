"""Divides images into parts of given shares, so that each class is divided in the same shares."""

import heapq
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

DIGITS = 9  # of a growth in images; rounded, so that the order in which a machine adds does not decide between parts


def single_label_parts(labels: Tensor, shares: Sequence[float], seed: int) -> Tensor:
    """Return each image's part, (N,) int64, for one label each: `multilabel_parts` in time that doesn't depend on K.

    Args:
        labels: (N,) class indices.
        shares: of the parts, each above 0, with the sum 1.
        seed: of the order of the images, and of parts that need an image equally.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    counts = labels.bincount()
    members = shuffled[labels[shuffled].argsort(stable=True)].split(counts.tolist())
    parts, missing = torch.empty(len(labels), dtype=torch.int64), [share * len(labels) for share in shares]
    for label in counts.argsort(stable=True).tolist():
        images = members[label]
        given = _deal([share * len(images) for share in shares], missing, len(images), generator)
        parts[images] = given
        missing = _less(missing, given)
    return parts


def multilabel_parts(labels: Tensor, shares: Sequence[float], seed: int) -> Tensor:
    """Return each image's part, (N,) int64, by iterative stratification.

    The class with the fewest images that are in no part yet is next, until each image with a class has its part. Its
    images go one by one to the part that lacks most images of this class; of several, to the one that lacks most
    images at all, or to a random one. Images without a class come last. A part lacks its share of the images less
    those that it has.

    Source: Sechidis et al. 2011, On the Stratification of Multi-Label Data, algorithm 1,
    https://doi.org/10.1007/978-3-642-23808-6_10. The package iterative-stratification 0.1.9 divides as evenly, in 8
    times the time (118,287 images, 80 classes, 5 folds), and imports private parts of scikit-learn.

    Args:
        labels: (N, K): 1 present; other values count as absent.
        shares: of the parts, each above 0, with the sum 1.
        seed: of the order of the images, and of parts that need an image equally.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    present = (labels == 1)[shuffled]  # (N, K)
    counts, parts = present.sum(0), torch.full((len(labels),), -1)
    missing = [share * len(labels) for share in shares]
    of_class = torch.tensor(shares, dtype=torch.float64)[:, None] * counts  # (parts, K), what each part lacks
    while counts.any():
        label = int(torch.where(counts > 0, counts, len(labels) + 1).argmin())
        images = (present[:, label] & (parts == -1)).nonzero().flatten()
        given = _deal(of_class[:, label].tolist(), missing, len(images), generator)
        parts[images] = given
        missing = _less(missing, given)
        counts -= present[images].sum(0)
        for part in range(len(shares)):
            of_class[part] -= present[images[given == part]].sum(0)
    rest = (parts == -1).nonzero().flatten()
    parts[rest] = _deal(missing, missing, len(rest), generator)
    return torch.empty_like(parts).scatter_(0, shuffled, parts)


def _deal(wanted: list[float], missing: list[float], count: int, generator: torch.Generator) -> Tensor:
    """Return the parts (count,) int64 that images of one class go to, one after the other.

    Args:
        wanted: what each part lacks of the class.
        missing: what each part lacks of all images.
        count: of the images.
        generator: decides between parts that lack equally.
    """
    ties = torch.randperm(len(wanted), generator=generator).tolist()
    heap = [(-of_class, -of_all, ties[part], part) for part, (of_class, of_all) in enumerate(zip(wanted, missing))]
    heapq.heapify(heap)
    given = []
    for _ in range(count):
        of_class, of_all, tie, part = heap[0]
        given.append(part)
        heapq.heapreplace(heap, (of_class + 1, of_all + 1, tie, part))
    return torch.tensor(given, dtype=torch.int64)


def _less(missing: list[float], given: Tensor) -> list[float]:
    return [old - new for old, new in zip(missing, given.bincount(minlength=len(missing)).tolist(), strict=True)]


def group_parts(groups: Tensor, targets: Tensor, shares: Sequence[float], seed: int) -> Tensor:
    """Return each image's part, (N,) int64; all images of a group are in one part.

    With x_jk images of class k in part j, of n_k in all, and the share r_j of part j, the groups go one after the other
    to the part where the sum over j and k of (x_jk - r_j n_k)^2 / (r_j n_k^2) grows least; all images count as one more
    class. Large groups come first, equally large ones in a random order.

    Source: the greedy method of scikit-learn's StratifiedGroupKFold, which minimizes the mean of the classes' standard
    deviations. Deviations: a squared error, so that the parts may have different shares; several labels; the order.

    Args:
        groups: (N,) group numbers in [0, G).
        targets: (N,) class indices, or (N, K) labels: 1 present.
        shares: of the parts, each above 0, with the sum 1.
        seed: of the order.
    """
    sizes = groups.bincount()
    shuffled = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(seed))
    order = shuffled[sizes[shuffled].argsort(descending=True, stable=True)]
    members = groups.argsort(stable=True).split(sizes.tolist())
    share, totals = np.array(shares)[:, None], _totals(targets)
    filled, parts = np.zeros((len(shares), len(totals))), torch.empty(len(groups), dtype=torch.int64)
    for images in (members[group] for group in order.tolist()):
        columns, counts = _counts(targets[images], len(totals) - 1)
        wanted = share * totals[columns]  # (parts, columns)
        growth = counts * (2 * (filled[:, columns] - wanted) + counts) / (wanted * totals[columns])
        part = int((len(targets) * growth.sum(1)).round(DIGITS).argmin())
        filled[part, columns] += counts
        parts[images] = part
    return parts


def _totals(targets: Tensor) -> np.ndarray:
    """Return the number of images of each class, and of all images: (K + 1,)."""
    counts = targets.bincount() if targets.ndim == 1 else (targets == 1).sum(0)
    return np.array([*counts.tolist(), len(targets)])


def _counts(targets: Tensor, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes that some images have, and `classes` for all images; and the number of images of each."""
    if targets.ndim == 1:
        columns, counts = np.unique(targets.numpy(), return_counts=True)
    else:
        present = (targets == 1).sum(0).numpy()
        columns = present.nonzero()[0]
        counts = present[columns]
    return np.append(columns, classes), np.append(counts, len(targets))
