"""Builds the objective of a training from the config, with the teacher that it may learn from."""

import functools
import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from fovea.config import resume_rules
from fovea.data.pixels.normalize import Normalize
from fovea.models.preprocessing import Preprocessing
from fovea.models.weights.fill import fill
from fovea.models.weights.weights_file import read_weights
from fovea.objectives.teacher import Teacher, rescaling
from fovea.parts import network_parts
from fovea.parts.partial_keys import check_keys
from fovea.parts.target import imported
from fovea.runs import checkpoint
from fovea.training.batch_loss import Loss, Objective

log = logging.getLogger(__name__)


def objective(cfg: DictConfig, loss: Loss) -> Objective:
    """Build the objective with `loss`, (logits (B, K), target) -> scalar, and its `teacher` if it has that key.

    Raises:
        ValueError: its target can't be imported, or doesn't take one of its keys; or the teacher doesn't fit the data.
    """
    options: Any = OmegaConf.to_container(cfg.objective, resolve=True)
    imported("objective", options["_target_"])
    given: dict[str, Any] = {"loss": loss} | {key: options.pop(key) for key in ("teacher",) if key in options}
    made: Any = instantiate(options | {"_partial_": True}, _convert_="all")
    check_keys("objective", functools.partial(made, **given), passed=("loss",))  # before a teacher is read
    if "teacher" in given:
        with isolate_rng():  # the training draws the same random numbers whatever the teacher
            given["teacher"] = teacher(cfg, given["teacher"])
    built: Objective = functools.partial(made, **given) if options.get("_partial_") else made(**given)
    return built


def teacher(cfg: DictConfig, place: Any) -> Teacher:
    """Build the teacher of a training, with its weights, on the CPU.

    Args:
        cfg: the training's config.
        place: a run folder, one of its checkpoints, or the node of a network with its `weights`.

    Raises:
        ValueError: the teacher can't be read, has other classes or random weights.
    """
    if isinstance(place, Mapping):
        return _of_node(cfg, dict(place))
    if not place:
        raise ValueError("objective.teacher is null: type objective.teacher=<run folder>")
    try:
        return _of_run(cfg, str(place))
    except ValueError as error:
        raise ValueError(f"objective.teacher={place}: {error}") from error


def _of_run(cfg: DictConfig, place: str) -> Teacher:
    with network_parts.hydras_errors():
        own = network_parts.run_config(place, torch.device("cpu"))
        _check_classes(own, cfg)
        resume_rules.warn_if_divided_otherwise(cfg, "objective.teacher", Path(own.run))
        network = network_parts.network(own.model, own.class_names, OmegaConf.select(own, "cosine_scale"))
        rescale = _rescale(cfg.preprocess, own.preprocess)
    file = checkpoint.to_evaluate(Path(own.run), own.ckpt_path)
    network_parts.load_weights(network, own.monitor, file)
    log.info("teacher: %s, %s", type(network).__name__, file)
    return Teacher(network.to(memory_format=torch.channels_last), own.data.image_size, rescale)


def _check_classes(own: DictConfig, cfg: DictConfig) -> None:
    if own.task != cfg.task:
        raise ValueError(f"the teacher is {own.task} and this data is {cfg.task}")
    theirs, ours = list(own.class_names), list(cfg.class_names)
    if theirs != ours:
        differing = [f"{a} and {b}" for a, b in zip(theirs, ours, strict=False) if a != b]
        first = f": at first {differing[0]}" if differing else ""
        raise ValueError(
            f"the teacher's {len(theirs)} classes are not this data's {len(ours)}, in the same order{first}\n"
            "Train the teacher on data with these classes"
        )


def _normalization(own: Preprocessing) -> DictConfig:
    target = f"{Normalize.__module__}.{Normalize.__name__}"
    return DictConfig({"_target_": target, "mean": own.mean, "std": own.std})


def _rescale(ours: DictConfig, theirs: DictConfig) -> tuple[Tensor, Tensor] | None:
    """Return (scale, shift) from this training's normalized images to the teacher's; None if they are the same."""
    if ours == theirs:
        return None
    mine, own = instantiate(ours), instantiate(theirs)
    if not (isinstance(mine, Normalize) and isinstance(own, Normalize)):
        raise ValueError(
            "the teacher has another preprocess, and only those with a mean and a standard deviation can be converted: "
            "type the preprocess that the teacher was trained with"
        )
    return rescaling(mine.mean, mine.std, (own.mean, own.std))


def _of_node(cfg: DictConfig, node: dict[str, Any]) -> Teacher:
    """Build a network of conf/model/ as teacher.

    It gets the images as the trained network does; if it has published weights, normalized as for these.
    """
    published = network_parts.preprocessing(node)
    takes_weights = "weights" in inspect.signature(get_object(node["_target_"])).parameters
    file = None if takes_weights else node.pop("weights", None)
    network, second = (network_parts.network(node, cfg.class_names) for _ in range(2))
    random = []
    if file is not None:
        weights = read_weights(file)
        report, _ = (fill(each, weights, cfg.class_names) for each in (network, second))
        report.log()
        random = report.not_loaded
    random += _random_tensors(network, second)
    if random:
        raise ValueError(
            f"objective.teacher: the network has no trained weights for {len(random)} tensors, such as {random[-1]}\n"
            "Type objective.teacher.weights=<weights for these classes>, or objective.teacher=<run folder>"
        )
    log.info("teacher: %s", type(network).__name__)
    rescale = _rescale(cfg.preprocess, _normalization(published)) if published else None
    return Teacher(network.to(memory_format=torch.channels_last), node.get("image_size"), rescale)


def _random_tensors(first: nn.Module, second: nn.Module) -> list[str]:
    """Return the names of the parameters in which two networks, built one after the other, differ."""
    others = dict(second.named_parameters())
    return [name for name, tensor in first.named_parameters() if not torch.equal(tensor, others[name])]
