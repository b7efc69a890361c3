"""What yamls may call: the resolvers."""

import datetime
import hashlib
import os
import uuid
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

PROJECT = Path(__file__).resolve().parents[3]
CONF = PROJECT / "conf"
SMALL_IMAGES = 64  # pixels up to which a network takes its stem for small images
LEAST_BATCHES, LEAST_BATCH = 8, 4  # of an epoch, and images in one: to where small data lower the usual batch size


def _stamp() -> str:
    """`2026-11-22_14-03-59_1f3a9c`: never the same twice, even within a second.

    But for the ranks that torchrun starts: all of one start derive the same one, and share a run folder.
    """
    now, own = datetime.datetime.now(), uuid.uuid4().hex
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1":
        now, own = _of_launcher()
    return f"{now:%Y-%m-%d_%H-%M-%S}_{own[:6]}"


def _of_launcher() -> tuple[datetime.datetime, str]:
    """When the process that started the ranks began, and a digest of which one it is.

    Raises:
        ValueError: the ranks can't tell, for they are on several nodes or the system doesn't say it.
    """
    stat, boot = Path(f"/proc/{os.getppid()}/stat"), Path("/proc/stat")
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1" or not stat.is_file():
        raise ValueError("the ranks can't agree on a folder: type hydra.run.dir=<run folder>, the same for all of them")
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # from boot to the process's start; see proc(5)
    booted = next(int(line.split()[1]) for line in boot.read_text().splitlines() if line.startswith("btime"))
    start = booted + ticks / os.sysconf("SC_CLK_TCK")
    which = f"{os.getppid()} {start} {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    return datetime.datetime.fromtimestamp(start), hashlib.sha256(which.encode()).hexdigest()


def _cpu_count(most: int) -> int:
    """The cores this process may use, and at most so many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, most)


def _times(share: float | str, length: int | None) -> int | None:
    """`share` of a length, such as 0.05, 1/3 or 5, rounded up; None where the length is not known."""
    return None if length is None else max(1, -(-Fraction(str(share)) * length // 1))


def _root(factor: float, n: int | None) -> float | None:
    """What multiplies to `factor` in n times; None where n is not known."""
    return None if n is None else float(factor ** (1 / n))


def _batch_for(most: int, images: int | None) -> int:
    """`most`, halved until an epoch of so many images has 8 batches, or a batch has 4 images."""
    if images is None:
        return most
    while most > 1 and (most > images or (most > LEAST_BATCH and images // most < LEAST_BATCHES)):
        most //= 2
    return most


RESOLVERS: dict[str, Callable[..., Any]] = {  # each says the same of the same config; `stamp` does not
    "project_dir": lambda: str(PROJECT),
    "cpu_count": _cpu_count,
    "stem_for": lambda size: "small" if size <= SMALL_IMAGES else "standard",
    "resize_for": lambda size: round(size / 0.875),
    "batch_for": _batch_for,
    "times": _times,
    "root": _root,
    "a_third_of": lambda n: max(1, -(-n // 3)) if n and n > 0 else 30,  # in the configs of earlier runs
}


def register_resolvers() -> None:
    """What a yaml may call: `${stem_for:${data.image_size}}` and so on."""
    for name, function in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
    OmegaConf.register_new_resolver("stamp", _stamp, use_cache=True, replace=True)
