"""Builds the loss from the config, and the shift of the logits that an evaluation or a prediction asks for."""

import logging
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from fovea.config import saved
from fovea.config.imbalance import LOSSES, treatments
from fovea.losses import arguments
from fovea.losses.logit_adjustment import logit_shift
from fovea.losses.training_counts import present_counts
from fovea.parts.target import imported

log = logging.getLogger(__name__)


def loss(cfg: DictConfig) -> Any:
    """Build the loss. Raises ValueError if it is for one label an image and the data has several."""
    built = from_node(cfg.loss)
    if cfg.task == "multilabel" and isinstance(built, nn.CrossEntropyLoss):
        treatment = OmegaConf.select(cfg, "imbalance")
        chosen = treatment in LOSSES and f"imbalance=none, class_weights or sampler instead of {treatment}"
        raise ValueError(
            f"loss: {type(built).__name__} is for one label per image, but the data has several: "
            f"use {chosen or 'loss=bce'}"
        )
    return built


def from_node(node: DictConfig) -> Any:
    """Build the loss of a node; lists in its config become tensors if the loss takes tensors (losses/arguments.py)."""
    options = OmegaConf.to_container(node, resolve=True)
    assert isinstance(options, dict)
    kind = imported("loss", options["_target_"])
    options = arguments.accepted(kind, {str(key): value for key, value in options.items()})
    tensors = arguments.tensors(kind, options)
    return arguments.register_tensors(instantiate(options, **tensors, _convert_="all"), tensors)


def shift_of_logits(cfg: DictConfig) -> Tensor | None:
    """Return the shift of the logits that logit_adjustment= asks an evaluation or prediction of cfg.run for, (K,).

    Raises:
        ValueError: the run has several labels an image, or does not know the counts of its training labels.
    """
    tau = OmegaConf.select(cfg, "logit_adjustment")  # a training has no such key
    if not tau:
        return None
    if cfg.task == "multilabel":
        raise ValueError(f"logit_adjustment={tau} is for one label per image; this run has several: leave it out")
    if cfg.class_counts is None:
        raise ValueError(f"logit_adjustment={tau} needs the counts of the training labels: class_counts is null")
    trained = DictConfig(saved.load("", Path(cfg.run)))  # `cfg` has no sampler
    if found := treatments(trained):
        log.warning(
            "logit_adjustment=%s: the training has corrected for the classes' frequencies already, by %s",
            *(tau, " and ".join(found)),
        )
    return logit_shift(present_counts(cfg.class_counts, "logit_adjustment", cfg.class_names), tau)
