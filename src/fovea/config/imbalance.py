"""Checks that the other options of a training don't undo the treatment of class imbalance that `imbalance=` chose."""

import logging

from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)

# Samplers: those that draw each image equally often, and those that draw images of rare classes more often.
EQUAL, BALANCING = ("Shuffled", "RepeatedAugmentation"), ("ClassBalanced", "Weighted")
DEFERRED = ["the loss LDAM", "loss.class_weights"]  # LDAM's weights are meant to be added to its margins
LOSSES = {"logit_adjustment": "LogitAdjustment", "ldam_drw": "LDAM"}  # the loss that a treatment is


def check_imbalance(cfg: DictConfig) -> None:
    """Check the config of a training; a config of an earlier version has no key `imbalance`.

    Raises:
        ValueError: the treatment is not in effect, or another option corrects for the classes' frequencies too.
    """
    treatment = OmegaConf.select(cfg, "imbalance")
    loss, sampler = (_name(cfg, key) for key in ("loss", "data.sampler"))
    weights = OmegaConf.select(cfg, "loss.class_weights")
    if treatment in LOSSES and loss != LOSSES[treatment]:
        raise ValueError(
            f"imbalance={treatment} is the loss {LOSSES[treatment]}, but the loss is {loss}: "
            f"leave out loss=, or type imbalance=none"
        )
    scales = OmegaConf.select(cfg, "loss.scale"), OmegaConf.select(cfg, "cosine_scale")
    if loss == LOSSES["ldam_drw"] and (scales[0] is None or scales[0] != scales[1]):
        raise ValueError(
            f"loss=ldam has margins between cosines, but loss.scale={scales[0]} and cosine_scale={scales[1]}: type "
            "cosine_scale=30, which loss.scale follows, or imbalance=ldam_drw"
        )
    if treatment in ("class_weights", "ldam_drw") and weights is None:
        raise ValueError(
            f"imbalance={treatment} needs class weights, but loss.class_weights is null: leave it out, or type "
            "imbalance=none"
        )
    if treatment == "sampler" and sampler in EQUAL:
        raise ValueError(
            f"imbalance=sampler draws rare classes more often, but the sampler is {sampler}: leave out sampler=, or "
            "type sampler=weighted, or imbalance=none"
        )
    if treatment == "ldam_drw" and OmegaConf.select(cfg, "callbacks.deferred_weights") is None:
        raise ValueError(
            "imbalance=ldam_drw defers class weights, but callbacks.deferred_weights is null: leave it out, or type "
            "loss=ldam cosine_scale=30 for LDAM without it"
        )
    if loss == LOSSES["logit_adjustment"] and sampler in BALANCING:
        raise ValueError(
            f"the loss {loss} and the sampler {sampler} both correct for the classes' frequencies: keep one of them"
        )
    if len(found := treatments(cfg)) > 1 and found != DEFERRED:
        log.warning("the classes' frequencies are corrected for more than once, by %s", " and ".join(found))


def treatments(cfg: DictConfig) -> list[str]:
    """Return what corrects for the classes' frequencies in the training of a config, for a message; [] if nothing."""
    loss, sampler = (_name(cfg, key) for key in ("loss", "data.sampler"))
    found = [f"the loss {loss}"] if loss in LOSSES.values() else []
    found += [f"the sampler {sampler}"] if sampler in BALANCING else []
    return found + (["loss.class_weights"] if OmegaConf.select(cfg, "loss.class_weights") is not None else [])


def _name(cfg: DictConfig, key: str) -> str | None:
    """Return the name of the class or function that a section builds, without its module; None if it has none."""
    target = OmegaConf.select(cfg, f"{key}._target_")
    return None if target is None else str(target).rpartition(".")[2]
