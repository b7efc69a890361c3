"""Splits a validation or test set off the training images."""

import numpy as np
import torch
from torch import Tensor

from fovea.data.division.image_groups import group_numbers
from fovea.data.division.stratification import group_parts, multilabel_parts
from fovea.data.index import Index

CHUNK = 1 << 18


def split_off(index: Index, fraction: float, seed: int) -> tuple[Index, Index]:
    """Return (rest, taken), both in the order of `index`; the result depends on the arguments alone.

    Single-label: `class_quotas` says how many random images each class gives. Multi-label: by iterative stratification,
    see `multilabel_parts`. With groups, these are not divided: see `group_parts`. The number of images is then
    approximate.

    Raises:
        ValueError: fraction is not between 0 and 1, or one of the two parts would be empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"a split's fraction has to lie between 0 and 1, not {fraction}")
    if index.groups is None:
        taken = _taken(index.targets, fraction, seed)
        hint = "single-label: a class's last image is never taken"
    else:
        taken = group_parts(group_numbers(index.groups), index.targets, (1 - fraction, fraction), seed) == 1
        hint = f"the images are of {len(set(index.groups))} groups, which are not divided"
    if taken.all() or not taken.any():
        raise ValueError(
            f"a fraction of {fraction:g} takes {int(taken.sum())} of {len(index)} images: one split is empty\n"
            f"Add images or choose another fraction ({hint})."
        )
    positions = np.arange(len(index), dtype=np.int32)  # numpy, because torch would make int64 indices of a mask
    rest, part = (torch.from_numpy(positions[mask.numpy()]) for mask in (~taken, taken))
    return index.take(rest), index.take(part)


def _taken(targets: Tensor, fraction: float, seed: int) -> Tensor:
    """Mark the images to take: (N,) bool."""
    if targets.ndim == 2:
        return multilabel_parts(targets, (1 - fraction, fraction), seed) == 1
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(targets), generator=generator, dtype=torch.int32)  # (N,)
    quotas = class_quotas(torch.bincount(targets).tolist(), fraction)
    taken = torch.zeros(len(targets), dtype=torch.bool)
    taken[first_of_each_class(targets, shuffled, torch.tensor(quotas))] = True
    return taken


def class_quotas(counts: list[int], fraction: float) -> list[int]:
    """Return how many images to take of each class, by the largest-remainder method.

    Class c gives floor(n_c * fraction). The images still missing from round(N * fraction) are taken one by one from the
    classes with the largest fractional part of n_c * fraction, the earlier class first if they are equal.
    No class gives its last image, so the total is smaller if round(N * fraction) > sum of (n_c - 1).
    """
    limits = [max(count - 1, 0) for count in counts]
    shares = [count * fraction for count in counts]
    quotas = [min(int(share), limit) for share, limit in zip(shares, limits, strict=True)]
    remaining = min(round(sum(counts) * fraction), sum(limits)) - sum(quotas)
    order = sorted(range(len(counts)), key=lambda c: int(shares[c]) - shares[c])  # stable
    while remaining:
        for c in order:
            if remaining and quotas[c] < limits[c]:
                quotas[c] += 1
                remaining -= 1
    return quotas


def first_of_each_class(labels: Tensor, shuffled: Tensor, quotas: Tensor) -> Tensor:
    """Return the positions of the first quotas[c] images of each class c in the shuffled order.

    Args:
        labels: (N,) class indices in [0, K).
        shuffled: (N,) a permutation of the positions.
        quotas: (K,) int64.
    """
    taken = []
    for chunk in shuffled.split(CHUNK):  # limits the memory
        label, order = labels[chunk].sort(stable=True)  # class by class, each still shuffled
        seen = torch.bincount(label, minlength=len(quotas))
        rank = torch.arange(len(chunk)) - (seen.cumsum(0) - seen)[label]  # position within the class
        taken.append(chunk[order[rank < quotas[label]]])
        quotas = (quotas - seen).clamp(min=0)
    return torch.cat(taken)
