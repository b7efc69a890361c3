"""The resolvers that a yaml may call."""

import datetime
import functools
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.resolvers import oc

PROJECT = Path(__file__).resolve().parents[3]
CONF = PROJECT / "conf"
NO_DEFAULT = object()
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


def _of_environment(name: str, default: Any = NO_DEFAULT) -> Any:
    """`oc.env`, of the variables that a yaml of conf/ names: a run's config may come from a stranger."""
    if name not in conf_variables():
        raise ValueError(
            f"${{oc.env:{name}}} reads a variable that no yaml of conf/ reads\n"
            f"Name it in a yaml of conf/, or type the value itself: $" + name
        )
    return oc.env(name) if default is NO_DEFAULT else oc.env(name, default)


@functools.cache
def conf_texts() -> str:
    """All yamls of conf/, without comments."""
    texts = [file.read_text("utf-8") for file in sorted(CONF.rglob("*.yaml"))]
    return re.sub(r"(?m)(^|\s)#.*", "", "\n".join(texts))


def conf_variables() -> set[str]:
    """The variables of the environment that conf/ reads."""
    return set(re.findall(r"oc\.env\s*:\s*(\w+)", conf_texts()))


MAKE_NODES = ("oc.create", "oc.decode", "oc.deprecated", "oc.select")  # from text: what they make can't be checked
# Each gives the same value for the same config. `stamp`, which never does, is registered beside them.
RESOLVERS: dict[str, Callable[..., Any]] = {
    "oc.env": _of_environment,
    "project_dir": lambda: str(PROJECT),
    "cpu_count": _cpu_count,
    "stem_for": lambda size: "small" if size <= SMALL_IMAGES else "standard",
    "resize_for": lambda size: round(size / 0.875),
    "batch_for": _batch_for,
    "times": _times,
    "root": _root,
}


def register_resolvers() -> None:
    """Let yamls call these, such as `${stem_for:${data.image_size}}`, and none that makes nodes from text."""
    for name in MAKE_NODES:
        OmegaConf.clear_resolver(name)
    for name, function in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
    OmegaConf.register_new_resolver("stamp", _stamp, use_cache=True, replace=True)


@contextmanager
def resolvers() -> Iterator[None]:
    """The same for a while, for a program that may have resolvers of its own."""
    before = dict(BaseContainer._resolvers)
    register_resolvers()
    try:
        yield
    finally:
        BaseContainer._resolvers = before
