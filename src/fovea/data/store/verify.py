"""Reading a store back: is every byte of it what was packed?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import Tensor

from fovea.data.store.pack_workers import spread, step
from fovea.data.store.store import COLUMNS, first_damaged, open_store, part_name


class Check(NamedTuple):
    """One process's job: a part, and its images' lengths and checksums."""

    file: Path
    lengths: Tensor
    checksums: Tensor


def verify(folder: Path, about: dict[str, Any], processes: int, tell: Callable[[int], None]) -> Path | None:
    """The first part found that doesn't hold what was put into it; None where all do.

    Args:
        about: what store.json says, or is to say.
        tell: is given the number of images that were read back.

    Raises:
        ValueError: the columns differ in length, or a part does from what they say.
    """
    store, targets = open_store(folder, about)
    images = about["images"]
    if not images == len(store.starts) - 1 == len(targets) == len(store.names):
        raise ValueError(f"{folder / COLUMNS} doesn't hold {images:,} images throughout: remove {folder}, pack again")
    store.check()
    with safe_open(folder / COLUMNS, "pt") as columns:
        checksums = columns.get_tensor("checksums")
    bounds = map(store.bounds, range(-(-images // store.part_size)))
    jobs = (
        Check(folder / part_name(part), store.starts[first : last + 1].diff(), checksums[first:last])
        for part, (first, last) in enumerate(bounds)
    )
    return next((file for file in spread(_damaged, jobs, processes, tell) if file is not None), None)


def _damaged(check: Check) -> Path | None:
    damaged = first_damaged(check.file, check.lengths, check.checksums)
    for _ in range(len(check.lengths)):
        step()
    return None if damaged is None else check.file
