"""Carving a validation or test split out of a split that has none."""

import numpy as np
import torch
from torch import Tensor

from fovea.data.index import Index

CHUNK = 1 << 18


def split_off(index: Index, fraction: float, seed: int) -> tuple[Index, Index]:
    """(rest, taken), both in `index`'s order; a function of the arguments alone.

    Multi-label: round(N * fraction) images, drawn at random. Single-label: as many, `seats` of them from each
    class; which of a class's images are taken is drawn at random.

    Raises:
        ValueError: fraction is not between 0 and 1, or leaves one side without an image.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"a split's fraction has to lie between 0 and 1, not {fraction}")
    taken = _taken(index.targets, fraction, seed)
    if taken.all() or not taken.any():
        raise ValueError(
            f"a fraction of {fraction:g} takes {int(taken.sum())} of {len(index)} images: one split is empty\n"
            "Give more images or another fraction (single-label: a class's last image is never taken)."
        )
    places = np.arange(len(index), dtype=np.int32)  # numpy, as torch would make an int64 of every mask
    rest, part = (torch.from_numpy(places[mask.numpy()]) for mask in (~taken, taken))
    return index.take(rest), index.take(part)


def _taken(targets: Tensor, fraction: float, seed: int) -> Tensor:
    """(N,) bool."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(targets), generator=generator, dtype=torch.int32)  # (N,)
    taken = torch.zeros(len(targets), dtype=torch.bool)
    if targets.ndim == 2:
        taken[shuffled[: round(len(targets) * fraction)]] = True
    else:
        taken[_stratified(targets, shuffled, fraction)] = True
    return taken


def seats(counts: list[int], fraction: float) -> list[int]:
    """How many images of each class are taken, by largest remainder.

    Class c gives floor(n_c * fraction). What is missing to round(N * fraction) is given one by one by the
    classes with the largest fractional part of n_c * fraction, the earlier class first where these are equal.
    No class gives its last image, so the total is smaller where round(N * fraction) > sum of (n_c - 1).
    """
    room = [max(count - 1, 0) for count in counts]
    shares = [count * fraction for count in counts]
    given = [min(int(share), most) for share, most in zip(shares, room, strict=True)]
    left = min(round(sum(counts) * fraction), sum(room)) - sum(given)
    order = sorted(range(len(counts)), key=lambda c: int(shares[c]) - shares[c])  # stable
    while left:
        for c in order:
            if left and given[c] < room[c]:
                given[c] += 1
                left -= 1
    return given


def _stratified(labels: Tensor, shuffled: Tensor, fraction: float) -> Tensor:
    """The images taken: in the shuffled order, each class's first `seats`."""
    counts = torch.bincount(labels)  # (K,)
    quota = torch.tensor(seats(counts.tolist(), fraction))  # (K,)
    taken = []
    for some in shuffled.split(CHUNK):  # of millions of images, not all at once
        label, order = labels[some].sort(stable=True)  # class 0's, 1's, ..., each still shuffled
        seen = torch.bincount(label, minlength=len(counts))
        rank = torch.arange(len(some)) - (seen.cumsum(0) - seen)[label]  # place within the class
        taken.append(some[order[rank < quota[label]]])
        quota = (quota - seen).clamp(min=0)
    return torch.cat(taken)
