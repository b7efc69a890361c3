"""Verifies a store: reads all images back and compares their checksums."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import Tensor

from fovea.data.store.pack_workers import count_image, run_jobs
from fovea.data.store.store import COLUMNS, first_damaged, open_store, part_name


class Check(NamedTuple):
    """The job of one process: a part, and the lengths and checksums of its images."""

    file: Path
    lengths: Tensor
    checksums: Tensor


def verify(folder: Path, metadata: dict[str, Any], processes: int, report: Callable[[int], None]) -> Path | None:
    """Return the first damaged part that is found; None if there is none.

    Args:
        metadata: the content of store.json, which may not be written yet.
        report: called with the number of images that were read back.

    Raises:
        ValueError: the columns or a part have a wrong length.
    """
    store, targets = open_store(folder, metadata)
    images = metadata["images"]
    if not images == len(store.starts) - 1 == len(targets) == len(store.names):
        raise ValueError(f"{folder / COLUMNS}: not all columns have {images:,} images: remove {folder}, and pack again")
    store.check()
    with safe_open(folder / COLUMNS, "pt") as columns:
        checksums = columns.get_tensor("checksums")
    bounds = map(store.bounds, range(-(-images // store.part_size)))
    jobs = (
        Check(folder / part_name(part), store.starts[first : last + 1].diff(), checksums[first:last])
        for part, (first, last) in enumerate(bounds)
    )
    return next((file for file in run_jobs(_find_damage, jobs, processes, report) if file is not None), None)


def _find_damage(check: Check) -> Path | None:
    """Return the part's file if it is damaged."""
    damaged = first_damaged(check.file, check.lengths, check.checksums)
    for _ in range(len(check.lengths)):
        count_image()
    return None if damaged is None else check.file
