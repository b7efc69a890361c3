"""Decides whether an optimizing sweep minimizes or maximizes the monitor."""

from collections.abc import Sequence

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from fovea.runs.figure_names import split_name

KEY = "hydra.sweeper.direction"
DIRECTIONS = {"min": "minimize", "max": "maximize"}


def direction(cfg: DictConfig, words: Sequence[str]) -> list[str]:
    """Return the override that sets an optimizing sweeper's direction, unless it is typed in `words`."""
    value = OmegaConf.select(cfg, KEY, default=0)  # 0: the sweeper has no such key; a list: it optimizes several values
    typed = any(word.lstrip("+").startswith(f"{KEY}=") for word in words)
    return [f"{KEY}={direction_of(cfg)}"] if not typed and (value is None or isinstance(value, str)) else []


def direction_of(cfg: DictConfig) -> str:
    """Return the direction by `mode` or, if it is null, by `higher_is_better` of the monitored metric's class.

    Raises:
        ValueError: neither is known.
    """
    name = cfg.monitor.partition("/")[2]
    metric = split_name(name)[1]
    nodes = [OmegaConf.select(cfg.metrics, one) for one in (name, metric)]
    node = next((node for node in nodes if node is not None), None)
    mode = cfg.mode or ("min" if metric == "loss" else None)
    if mode is None and node is not None:
        higher = getattr(get_object(node._target_), "higher_is_better", None)
        mode = ("max" if higher else "min") if isinstance(higher, bool) else None
    if mode is None:
        raise ValueError(
            f"{KEY} is not known: monitor={cfg.monitor} is built by a target that has no higher_is_better\n"
            "type mode=max if higher values are better, else mode=min"
        )
    return DIRECTIONS[mode]
