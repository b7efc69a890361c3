"""Compares two classifiers on the same images: aligns their predictions, and McNemar's exact test."""

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePath
from typing import NamedTuple

from scipy.stats import binomtest
from torch import Tensor

from fovea.report.prediction_file import Predictions

ADVICE = "test both on the same split: python src/evaluate.py run=<run folder> data.root=<folder>"


def align(one: Predictions, other: Predictions) -> tuple[Predictions, Predictions]:
    """Return both in the order of `one`, so that row n of each is the same image.

    Images are matched by their paths. If the sets of paths differ, they are matched by their paths relative to the
    common folder of all images of each, so the data may lie in another folder.

    Raises:
        ValueError: tasks, class names, images or labels differ, or a path occurs twice.
    """
    _check_classes(one, other)
    keys, other_keys = _keys(one.paths, other.paths)
    _check_images(keys, other_keys)
    rows = {key: row for row, key in enumerate(other_keys)}
    order = [rows[key] for key in keys]
    aligned = other if order == list(range(len(order))) else other.take(order)
    _check_labels(one, aligned)
    return one, aligned


class McNemar(NamedTuple):
    """How many images only one of two classifiers has right, and the p-value of the hypothesis of equal error rates."""

    only_one: int
    only_other: int
    p_value: float


def mcnemar(one: Tensor, other: Tensor) -> McNemar:
    """Test whether two classifiers have the same error rate: McNemar's test, exact and two-sided.

    Under the hypothesis, an image that only one classifier has right is equally likely to be of either: the count of
    the first is binomial with probability 1/2. The p-value is 1 if there is no such image.

    Source: McNemar 1947, https://doi.org/10.1007/BF02295996; exact version: the sign test on discordant pairs.

    Args:
        one: (N,) bool: which images the first classifier has right.
        other: (N,) bool, of the second on the same images.
    """
    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    p_value = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    return McNemar(first, second, float(p_value))


def _check_classes(one: Predictions, other: Predictions) -> None:
    if one.task != other.task:
        raise ValueError(f"the first predictions are {one.task}, the second {other.task}: compare runs of one task")
    names, others = list(one.class_names), list(other.class_names)
    if len(names) != len(others):
        raise ValueError(f"the first run has {len(names)} classes, the second {len(others)}: {ADVICE}")
    different = [k for k, (name, other_name) in enumerate(zip(names, others)) if name != other_name]
    if different:
        k = different[0]
        raise ValueError(f"class {k} is {names[k]!r} in the first run and {others[k]!r} in the second: {ADVICE}")


def _keys(paths: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what to match each image by: its path, or if the sets differ, its path below the common folder."""
    same = set(paths) == set(others)
    return (list(paths), list(others)) if same else (_below_common_folder(paths), _below_common_folder(others))


def _below_common_folder(paths: Sequence[str]) -> list[str]:
    parts = [PurePath(path).parts for path in paths]
    folders = sorted(part[:-1] for part in parts)
    pairs = zip(folders[0], folders[-1]) if folders else ()  # what these two have in common, all between them have
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return [PurePath(*part[common:]).as_posix() for part in parts]


def _check_images(keys: Sequence[str], others: Sequence[str]) -> None:
    for which, names in (("first", keys), ("second", others)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(
                f"{len(twice)} paths occur more than once in the {which} predictions, such as {twice[0]}, so images "
                "can't be matched: remove them from the list of images"
            )
    for which, names, missing_in in (("first", keys, set(others)), ("second", others, set(keys))):
        missing = [name for name in names if name not in missing_in]
        if missing:
            raise ValueError(
                f"the runs were tested on different images: {len(missing)} of {len(names)} are only in the {which}, "
                f"such as {missing[0]}; {ADVICE}"
            )


def _check_labels(one: Predictions, aligned: Predictions) -> None:
    different = one.labels != aligned.labels  # (N,) or (N, K)
    different = (different.any(1) if different.ndim == 2 else different).nonzero().flatten()
    if len(different):
        path = one.paths[int(different[0])]
        raise ValueError(
            f"the labels of {len(different)} of {len(one)} images differ between the runs, such as that of {path}; "
            + ADVICE
        )
