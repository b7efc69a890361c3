"""Divides images into parts of given shares, so that each class is divided in the same shares."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

DIGITS = 9  # of a growth in images; rounded, so that the order in which a machine adds does not decide between parts


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
