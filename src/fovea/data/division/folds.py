"""Divides images into the folds of a cross-validation."""

from torch import Tensor

from fovea.data.division.image_groups import group_numbers
from fovea.data.division.stratification import group_parts, multilabel_parts, single_label_parts
from fovea.data.index import Index

MOST = 5  # classes that a warning names


def fold_numbers(index: Index, folds: int, seed: int) -> Tensor:
    """Return each image's fold, (N,) int64 in [0, folds); it depends on the arguments alone.

    One label each: the numbers of a class in two folds differ by at most one, and so do the numbers of images. Several
    labels: by iterative stratification. With groups: no group is divided, see `group_parts`.

    Raises:
        ValueError: there are fewer images or groups than folds.
    """
    shares = [1 / folds] * folds
    if index.groups is not None:
        groups = group_numbers(index.groups)
        _check(folds, int(groups.max()) + 1 if len(groups) else 0, "groups")
        return group_parts(groups, index.targets, shares, seed)
    _check(folds, len(index), "images")
    divide = single_label_parts if index.targets.ndim == 1 else multilabel_parts
    return divide(index.targets, shares, seed)


def _check(folds: int, count: int, name: str) -> None:
    if count < folds:
        raise ValueError(f"data.folds={folds}: there are only {count} {name} to divide; choose fewer folds")


def fold_of(index: Index, folds: int, fold: int, seed: int) -> tuple[Index, Index]:
    """Return (the images of the other folds, those of this fold), both in the order of `index`."""
    own = fold_numbers(index, folds, seed) == fold
    return index.take((~own).nonzero().flatten()), index.take(own.nonzero().flatten())


def rare_classes(counts: list[int], names: tuple[str, ...], folds: int) -> list[str]:
    """Return a warning about classes that have fewer images than there are folds, if any has; `counts` are of K."""
    rare = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < folds]
    if not rare:
        return []
    named = ", ".join(rare[:MOST]) + (", ..." if len(rare) > MOST else "")
    return [f"data.folds={folds}: {len(rare)} classes have fewer images, so folds lack them: {named}"]
