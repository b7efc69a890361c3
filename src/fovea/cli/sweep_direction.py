"""Whether an optimizing sweep minimizes or maximizes the monitor."""

from collections.abc import Sequence

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

KEY = "hydra.sweeper.direction"
DIRECTIONS = {"min": "minimize", "max": "maximize"}


def direction(cfg: DictConfig, words: Sequence[str]) -> list[str]:
    """The override that makes an optimizing sweeper follow the monitor, unless its direction is typed in `words`."""
    known = OmegaConf.select(cfg, KEY, default=0)  # 0: the sweeper has none; a list: it follows several values
    typed = any(word.lstrip("+").startswith(f"{KEY}=") for word in words)
    return [f"{KEY}={direction_of(cfg)}"] if not typed and (known is None or isinstance(known, str)) else []


def direction_of(cfg: DictConfig) -> str:
    """As `mode` says, or else `higher_is_better` of the monitored metric's class, which is imported for it.

    Raises:
        ValueError: neither says it.
    """
    name = cfg.monitor.partition("/")[2]
    nodes = [OmegaConf.select(cfg.metrics, one) for one in (name, name.removeprefix("ema_"))]
    node = next((node for node in nodes if node is not None), None)
    mode = cfg.mode or ("min" if name in ("loss", "ema_loss") else None)
    if mode is None and node is not None:
        higher = getattr(get_object(node._target_), "higher_is_better", None)
        mode = ("max" if higher else "min") if isinstance(higher, bool) else None
    if mode is None:
        raise ValueError(
            f"{KEY} is not known: the metric of monitor={cfg.monitor} doesn't say, before it is built, whether "
            "higher or lower values are better\ntype mode=max or mode=min"
        )
    return DIRECTIONS[mode]
