"""Builds the objective of a training from the config."""

import functools
import inspect
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from fovea.training.batch_loss import Loss, Objective


def objective(cfg: DictConfig, loss: Loss) -> Objective:
    """Build the objective with `loss`, (logits (B, K), target) -> scalar.

    Raises:
        ValueError: its target can't be imported, or doesn't take one of its keys.
    """
    options: Any = OmegaConf.to_container(cfg.objective, resolve=True)
    _check_keys(options)
    given = {"loss": loss}
    made: Any = instantiate(options | {"_partial_": True}, _convert_="all")
    built: Objective = functools.partial(made, **given) if options.get("_partial_") else made(**given)
    return built


def _check_keys(options: dict[str, Any]) -> None:
    """Check the keys now, because a function would be called with them in the first step only."""
    try:
        kind = get_object(options["_target_"])
    except ImportError as error:
        raise ValueError(f"objective._target_={options['_target_']} can't be imported: is it spelt right?") from error
    keys = [key for key in options if key not in ("_target_", "_partial_", "_convert_", "_recursive_")]
    try:
        inspect.signature(kind).bind_partial(**dict.fromkeys(["loss", *keys]))
    except TypeError as error:
        raise ValueError(f"objective: {options['_target_']} {error}") from error
