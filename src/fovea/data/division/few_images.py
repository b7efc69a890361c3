"""Limits the training images of each class, for few-shot training and learning curves."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fovea.data.division.split import first_of_each_class
from fovea.data.index import Index, class_counts

MOST = 5  # classes that a warning names


class Limited(NamedTuple):
    """The images that are kept, a sentence for the log, and warnings about classes that have fewer images."""

    images: Index
    text: str
    warnings: list[str]


def limit_per_class(index: Index, class_names: Sequence[str], limit: int, seed: int) -> Limited:
    """Keep the first `limit` images of each class in a random order, in the order of `index`; see `few_positions`."""
    positions = few_positions(index.targets, len(class_names), limit, seed)
    counts = class_counts(index.targets, len(class_names))["present"]
    fewer = [f"{name} ({count})" for name, count in zip(class_names, counts, strict=True) if count < limit]
    warnings = []
    if fewer:
        more = ", ..." if len(fewer) > MOST else ""
        warnings = [
            f"data.limit_per_class={limit}: {len(fewer)} of {len(class_names)} classes have fewer training images: "
            f"{', '.join(fewer[:MOST])}{more}"
        ]
    text = f"data.limit_per_class={limit}: {len(positions):,} of {len(index):,} training images are used"
    return Limited(index.take(positions), text, warnings)


def few_positions(targets: Tensor, num_classes: int, limit: int, seed: int) -> Tensor:
    """Return the positions of the kept images, (n,) int64, ascending.

    The images are put into a random order. One label each: a class keeps its first `limit` images. Several labels: the
    union over the classes of the first `limit` images that have the class, and the first `limit` images without any
    known class; a class that occurs beside others may then have more than `limit` images. In both cases the images of
    a lower limit are among those of a higher one with the same seed.

    Args:
        targets: (N,) class indices or (N, K) labels.
        num_classes: K.
        limit: at least 1.
        seed: of the order.
    """
    shuffled = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    if targets.ndim == 1:
        kept = first_of_each_class(targets, shuffled, torch.full((num_classes,), limit)).long()
    else:
        has_none = ~(targets == 1).any(1)
        columns = [*(targets[:, k] == 1 for k in range(num_classes)), has_none]
        kept = torch.cat([shuffled[column[shuffled]][:limit] for column in columns]).long()
    return kept.unique()
