"""Validates a store's metadata and columns: it may come from an untrusted source, and its offsets address memory."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fovea.data.string_array import StringArray


def check_metadata(file: Path, metadata: dict[str, Any]) -> None:
    """Raise ValueError if store.json has missing or invalid values."""
    try:
        names, bounds, size = metadata["class_names"], metadata["splits"], metadata["part_size"]
        valid = (
            metadata["task"] in ("multiclass", "multilabel")
            and metadata["options"]["format"] in ("files", "jpeg", "raw")
            and type(size) is int
            and size > 0
            and isinstance(names, list)
            and all(isinstance(name, str) for name in names)
            and set(bounds) == {"train", "val", "test"}
            and all(type(number) is int for pair in bounds.values() for number in pair)
            and all(0 <= first <= last for first, last in bounds.values())
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file} does not belong to a store: {type(error).__name__} {error}") from error
    if not valid:
        raise ValueError(f"{file} does not belong to a store: its task, classes, splits or part_size are invalid")


def check_columns(
    file: Path,
    metadata: dict[str, Any],
    starts: Tensor,
    names: StringArray,
    sizes: Tensor | None,
    targets: Tensor,
    groups: StringArray | None = None,
) -> None:
    """Raise ValueError if the columns are inconsistent with each other or with store.json.

    Takes milliseconds for a million images.
    """
    valid = _are_offsets(starts) and len(starts) == len(targets) + 1
    valid = valid and all(_are_strings(column, len(targets)) for column in (names, groups) if column is not None)
    valid = valid and max(last for _, last in metadata["splits"].values()) <= len(targets)
    valid = valid and (sizes is None or _sizes_match(sizes, starts)) and _are_targets(targets, metadata)
    if not valid:
        raise ValueError(f"{file} is inconsistent, or differs from store.json: copy the store again, or pack it again")


def _are_offsets(starts: Tensor) -> bool:
    """Return whether these are integers that begin with 0 and never decrease."""
    integers = starts.ndim == 1 and len(starts) > 0 and starts.dtype in (torch.int32, torch.int64)
    return integers and int(starts[0]) == 0 and bool((starts[1:] >= starts[:-1]).all())


def _are_strings(column: StringArray, count: int) -> bool:
    return _are_offsets(column.starts) and len(column) == count and int(column.starts[-1]) <= len(column.text)


def _sizes_match(sizes: Tensor, starts: Tensor) -> bool:
    """Return whether pixels of these heights and widths (N, 2) take exactly the bytes between the offsets."""
    if sizes.shape != (len(starts) - 1, 2) or sizes.dtype not in (torch.int32, torch.int64) or (sizes < 0).any():
        return False
    return torch.equal(3 * sizes[:, 0].double() * sizes[:, 1].double(), starts.diff().double())


def _are_targets(targets: Tensor, metadata: dict[str, Any]) -> bool:
    classes = len(metadata["class_names"])
    if metadata["task"] == "multilabel":
        return targets.ndim == 2 and targets.shape[1] == classes
    return targets.ndim == 1 and (not len(targets) or (int(targets.min()) >= 0 and int(targets.max()) < classes))
