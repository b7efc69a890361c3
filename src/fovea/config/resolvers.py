"""OmegaConf resolvers for the yamls of conf/, such as `${stem_for:${data.image_size}}`."""

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

from fovea.config import pretrained

PROJECT = Path(__file__).resolve().parents[3]
CONF = PROJECT / "conf"
NO_DEFAULT = object()
SMALL_IMAGES = 64  # pixels; up to this size networks use their stem for small images
LEAST_BATCHES, LEAST_BATCH = (
    8,
    4,
)  # batches an epoch, and images a batch: the default batch size is halved down to these


def stamp() -> str:
    """Return a unique name such as `2026-11-22_14-03-59_1f3a9c`.

    Ranks that torchrun starts together get the same name, so that they share a run folder.
    """
    now, own = datetime.datetime.now(), uuid.uuid4().hex
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1":
        now, own = _of_launcher()
    return f"{now:%Y-%m-%d_%H-%M-%S}_{own[:6]}"


def _of_launcher() -> tuple[datetime.datetime, str]:
    """Return the start time and a digest of the process that started the ranks.

    Raises:
        ValueError: the ranks are on several nodes, or the system has no /proc.
    """
    stat, boot = Path(f"/proc/{os.getppid()}/stat"), Path("/proc/stat")
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1" or not stat.is_file():
        raise ValueError(
            "the ranks can't agree on a run folder: type the same hydra.run.dir=<run folder> for all ranks"
        )
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # from boot to the process's start; see proc(5)
    booted = next(int(line.split()[1]) for line in boot.read_text().splitlines() if line.startswith("btime"))
    start = booted + ticks / os.sysconf("SC_CLK_TCK")
    identity = f"{os.getppid()} {start} {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    return datetime.datetime.fromtimestamp(start), hashlib.sha256(identity.encode()).hexdigest()


def _cpu_count(most: int) -> int:
    """Return the number of cores that this process may use, at most `most`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, most)


def _times(share: float | str, length: int | None) -> int | None:
    """Return `share` (0.05, 1/3 or 5) times the length, rounded up; None if the length is not known."""
    return None if length is None else max(1, -(-Fraction(str(share)) * length // 1))


def _root(factor: float, n: int | None) -> float | None:
    """Return the n-th root of `factor`; None if n is not known."""
    return None if n is None else float(factor ** (1 / n))


def _batch_for(most: int, images: int | None) -> int:
    """Halve the batch size `most` until an epoch of `images` has 8 batches, or a batch has 4 images."""
    if images is None:
        return most
    while most > 1 and (most > images or (most > LEAST_BATCH and images // most < LEAST_BATCHES)):
        most //= 2
    return most


def _of_environment(name: str, default: Any = NO_DEFAULT) -> Any:
    """Like `oc.env`, for variables that a yaml of conf/ names only, as a run's config may come from a stranger."""
    if name not in conf_variables():
        raise ValueError(
            f"${{oc.env:{name}}} reads a variable that no yaml of conf/ reads\n"
            f"Name it in a yaml of conf/, or type the value itself: $" + name
        )
    return oc.env(name) if default is NO_DEFAULT else oc.env(name, default)


@functools.cache
def conf_texts() -> str:
    """Return the text of all yamls of conf/, without comments."""
    texts = [file.read_text("utf-8") for file in sorted(CONF.rglob("*.yaml"))]
    return re.sub(r"(?m)(^|\s)#.*", "", "\n".join(texts))


def conf_variables() -> set[str]:
    """Return the names of the environment variables that conf/ reads."""
    return set(re.findall(r"oc\.env\s*:\s*(\w+)", conf_texts()))


MAKE_NODES = (
    "oc.create",
    "oc.decode",
    "oc.deprecated",
    "oc.select",
)  # they make nodes from text, which can't be checked
# All return the same value for the same config, unlike `stamp`, which is registered separately.
RESOLVERS: dict[str, Callable[..., Any]] = {
    "oc.env": _of_environment,
    "project_dir": lambda: str(PROJECT),
    "cpu_count": _cpu_count,
    "stem_for": lambda size: "small" if size <= SMALL_IMAGES else "standard",
    "pretrained": pretrained.pretrained,
    "eval_size_for": pretrained.eval_size_for,
    "resize_for": pretrained.resize_for,
    "batch_for": _batch_for,
    "times": _times,
    "root": _root,
}


def register_resolvers() -> None:
    """Register these resolvers and remove OmegaConf's own that make nodes from text."""
    for name in MAKE_NODES:
        OmegaConf.clear_resolver(name)
    for name, function in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
    OmegaConf.register_new_resolver("stamp", stamp, use_cache=True, replace=True)


@contextmanager
def resolvers() -> Iterator[None]:
    """Register the resolvers while the context is open; afterwards restore those of the calling program."""
    before = dict(BaseContainer._resolvers)
    register_resolvers()
    try:
        yield
    finally:
        BaseContainer._resolvers = before
