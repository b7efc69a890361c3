"""Groups of images that must not be divided, such as a patient's or a video's, taken from the images' paths."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fovea.data.fingerprint import relative
from fovea.data.index import Index, Splits
from fovea.data.string_array import StringArray, join


def with_groups(data: Splits, pattern: str, root: str | None) -> Splits:
    """Return the data with each image's group: what the pattern's group matches in the path below `root`.

    Args:
        data: the data.
        pattern: a regular expression with one group, searched anywhere in the path; folders are separated by `/`.
        root: the folder of the data; names in a store are relative as they are.

    Raises:
        ValueError: the pattern does not match the path of an image.
    """
    splits = {split: index for split in ("train", "val", "test") if (index := getattr(data, split)) is not None}
    missing = list[str]()
    done = {
        id(index): index.with_groups(StringArray.of(_matches(index, pattern, root, missing)))
        for index in splits.values()
    }
    if missing:
        total = sum(map(len, done.values()))
        raise ValueError(
            f"data.group_pattern={pattern}: {len(missing)} of {total} paths have no match, such as {missing[0]}\n"
            "Change the pattern: its group, in brackets, has to match in every path below data.root"
        )
    return replace(data, **{split: done[id(index)] for split, index in splits.items()})


def _matches(index: Index, pattern: str, root: str | None, missing: list[str]) -> Iterator[str]:
    """Yield the group of each image, and append the paths without one to `missing`."""
    find = re.compile(pattern).search
    for path in index.paths if index.store else relative(index.paths, root):
        found = find(path)
        if not found or not found[1]:
            missing.append(path)
        yield found[1] or "" if found else ""


def group_numbers(groups: StringArray) -> Tensor:
    """Return (N,) int64 numbers in [0, G), in the alphabetical order of the names."""
    return torch.from_numpy(np.unique(np.array(list(groups)), return_inverse=True)[1])


def shared_groups(splits: Mapping[str, Index]) -> list[str]:
    """Return a warning for each two given splits that have images of one group."""
    return [text for pair in combinations(splits, 2) if (text := _shared(*pair, *(splits[name] for name in pair)))]


def _shared(name: str, other_name: str, one: Index, other: Index) -> str:
    if one is other or one.groups is None or other.groups is None:
        return ""
    numbers = group_numbers(join([one.groups, other.groups]))
    first, second = (part.bincount(minlength=int(numbers.max()) + 1) for part in numbers.split([len(one), len(other)]))
    both = (first > 0) & (second > 0)
    if not both.any():
        return ""
    example = one.groups[int(both[numbers[: len(one)]].nonzero()[0])]
    return (
        f"{int(both.sum())} groups have images in {name} and in {other_name} ({int(first[both].sum())} and "
        f"{int(second[both].sum())} images), such as {example!r}: figures of {other_name} may be too good"
    )
