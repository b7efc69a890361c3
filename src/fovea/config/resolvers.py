"""What yamls may call and read: the resolvers, and the environment with .env's variables."""

import datetime
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dotenv import load_dotenv
from omegaconf import OmegaConf

PROJECT = Path(__file__).resolve().parents[3]
CONF = PROJECT / "conf"
SMALL_IMAGES = 64  # pixels up to which a network takes its stem for small images


def _stamp() -> str:
    """`2026-11-22_14-03-59_1f3a9c`: never the same twice, even within a second."""
    return f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}_{uuid.uuid4().hex[:6]}"


def _cpu_count(most: int) -> int:
    """The cores this process may use, and at most so many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, most)


def register_resolvers() -> None:
    """What a yaml may call: `${stem_for:${data.image_size}}` and so on."""
    resolvers: dict[str, Callable[..., Any]] = {
        "project_dir": lambda: str(PROJECT),
        "cpu_count": _cpu_count,
        "mode_for": lambda monitor: "min" if "loss" in monitor else "max",
        "stem_for": lambda size: "small" if size <= SMALL_IMAGES else "standard",
        "resize_for": lambda size: round(size / 0.875),
        "a_third_of": lambda n: max(1, -(-n // 3)) if n and n > 0 else 30,
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
    OmegaConf.register_new_resolver("stamp", _stamp, use_cache=True, replace=True)


def load_environment() -> None:
    """Take .env's variables where the environment has none; an empty folder variable counts as unset."""
    load_dotenv(PROJECT / ".env")
    for name in ("IMAGENET_DIR", "DATA_DIR", "RUNS_DIR"):
        if os.environ.get(name) == "":
            del os.environ[name]
