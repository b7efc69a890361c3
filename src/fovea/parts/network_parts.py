"""Builds the network of a config, and reads the config and the weights of a trained run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from fovea import error_text
from fovea.cli.command import read_command
from fovea.cli.errors import composition_errors
from fovea.cli.named_run import with_run_folders
from fovea.cli.paths import expanded, with_value
from fovea.config.check import check
from fovea.config.defaults import own_hydra
from fovea.models.cosine import use_cosine_classifier
from fovea.models.from_timm import timm_preprocessing
from fovea.models.from_torchvision import torchvision_preprocessing
from fovea.models.preprocessing import Preprocessing
from fovea.runs import checkpoint
from fovea.runs.figure_names import average_of, checkpoint_key

PREPROCESSING = {  # the function that builds a network -> the one that finds the preprocessing of its published weights
    "fovea.models.from_timm.build_timm": timm_preprocessing,
    "fovea.models.from_torchvision.build_torchvision": torchvision_preprocessing,
}


def preprocessing(node: Any) -> Preprocessing | None:
    """Return the preprocessing of the published weights that a network's node names; None if it names none."""
    find = PREPROCESSING.get(node.get("_target_"))
    return find(node["name"], node["weights"]) if find and node.get("weights") else None


def network(node: Any, class_names: Sequence[str], cosine_scale: float | None = None) -> nn.Module:
    """Build the network of a node.

    Args:
        node: its key `class_names`, if it has one, is filled in.
        class_names: the names of the K classes.
        cosine_scale: replaces the classifier by one of cosines with this scale; None: the classifier stays.
    """
    known = {"class_names": list(class_names)} if "class_names" in node else {}
    built: nn.Module = instantiate(node, **known, _convert_="all")
    if cosine_scale is not None:
        use_cosine_classifier(built, cosine_scale)
    return built


@contextmanager
def hydras_errors() -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into ValueErrors."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(composition_errors.explain(error) or error_text.explain(error)) from error


def run_config(run: str | PathLike[str], device: torch.device) -> DictConfig:
    """Return a run's config, composed with predict.yaml and checked, for one device instead of the training's.

    Args:
        run: a run folder, one of its checkpoints, or "last".
        device: the device of the predictions.

    Raises:
        ValueError: there is no such run, or its config is damaged or not allowed.
    """
    accelerator = "gpu" if device.type == "cuda" else device.type
    alone = (f"++trainer.accelerator={accelerator}", "++trainer.devices=1", "++trainer.num_nodes=1")
    words = with_run_folders([with_value("run", expanded("run", str(run)))], ("run",))
    with own_hydra():
        command = read_command("predict", ("run",), [*words, *alone, "++trainer.strategy=auto", "output_dir=null"])
        cfg = hydra.compose(command.config_name, command.words)
        check(cfg, "predict", command.source)
    return cfg


def load_weights(network: nn.Module, monitor: str, file: Path) -> None:
    """Load a checkpoint's weights, or its averaged weights if the run's monitor is a figure of them.

    Raises:
        ValueError: the file is damaged, or has the weights of another network.
    """
    content = checkpoint.read(file)
    try:
        prefix = "network."  # the task's name for it
        tensors = {name.removeprefix(prefix): t for name, t in content["state_dict"].items() if name.startswith(prefix)}
        network.load_state_dict(tensors)
        average = average_of(monitor)
        if average and checkpoint_key(average) in content:
            network.load_state_dict(content[checkpoint_key(average)])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{file}: these are not weights of the network that the run's config builds: {reason}"
        ) from error
