"""Is a store what packing writes? It may come from a stranger, and its numbers say which memory is read."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fovea.data.string_array import StringArray


def check_about(file: Path, about: dict[str, Any]) -> None:
    """Raises ValueError where store.json does not hold what it should."""
    try:
        names, bounds, size = about["class_names"], about["splits"], about["part_size"]
        whole = (
            about["task"] in ("multiclass", "multilabel")
            and about["options"]["format"] in ("files", "jpeg", "raw")
            and type(size) is int
            and size > 0
            and isinstance(names, list)
            and all(isinstance(name, str) for name in names)
            and set(bounds) == {"train", "val", "test"}
            and all(type(place) is int for both in bounds.values() for place in both)
            and all(0 <= first <= last for first, last in bounds.values())
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file} is no store's: {type(error).__name__} {error}") from error
    if not whole:
        raise ValueError(f"{file} is no store's: its task, classes, splits or part_size are not what packing writes")


def check_columns(
    file: Path, about: dict[str, Any], starts: Tensor, names: StringArray, sizes: Tensor | None, targets: Tensor
) -> None:
    """Look at columns.safetensors, milliseconds for a million images.

    Raises:
        ValueError: the columns contradict each other, or what store.json says.
    """
    whole = _rises(starts) and _rises(names.starts)
    whole = whole and len(starts) == len(names.starts) == len(targets) + 1
    whole = whole and int(names.starts[-1]) <= len(names.text)
    whole = whole and max(last for _, last in about["splits"].values()) <= len(targets)
    whole = whole and (sizes is None or _fill(sizes, starts)) and _are_targets(targets, about)
    if not whole:
        raise ValueError(f"{file} does not fit its store.json, or itself: copy the store again, or pack it again")


def _rises(starts: Tensor) -> bool:
    """From 0 on, never falling."""
    numbers = starts.ndim == 1 and len(starts) > 0 and starts.dtype in (torch.int32, torch.int64)
    return numbers and int(starts[0]) == 0 and bool((starts[1:] >= starts[:-1]).all())


def _fill(sizes: Tensor, starts: Tensor) -> bool:
    """Whether images of `sizes` (N, 2) take just the room that there is."""
    if sizes.shape != (len(starts) - 1, 2) or sizes.dtype not in (torch.int32, torch.int64) or (sizes < 0).any():
        return False
    return torch.equal(3 * sizes[:, 0].double() * sizes[:, 1].double(), starts.diff().double())


def _are_targets(targets: Tensor, about: dict[str, Any]) -> bool:
    classes = len(about["class_names"])
    if about["task"] == "multilabel":
        return targets.ndim == 2 and targets.shape[1] == classes
    return targets.ndim == 1 and (not len(targets) or (int(targets.min()) >= 0 and int(targets.max()) < classes))
