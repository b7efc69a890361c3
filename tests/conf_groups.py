"""What the tests of conf/ share: the yamls of each group, and a config composed with some of them.

Tests of every yaml of a group find the yamls here, so that a new one is tested without being named anywhere. They hold
what any yaml of the group must do; what our own ones do beyond that is tested by their names.
"""

import functools
import pickle
import re
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from fovea.config.resolvers import CONF, register_resolvers

GROUPS = {
    folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
    for folder in sorted(CONF.iterdir())
    if folder.name != "hydra" and any(folder.glob("*.yaml"))
}
DERIVED = {
    "num_classes": 7,
    "task": "multiclass",
    "mode": "max",
    "class_names": list("abcdefg"),
    "class_counts": {"present": [40, 20, 10, 5, 3, 2, 1], "absent": [41, 61, 71, 76, 78, 79, 80]},
    "total_steps": 70,
    "schedule_length": 10,
    "warmup_length": 2,
    "schedule_epoch": 7,
}


def chosen(group: str, name: str) -> str:
    """The override that takes a yaml in; metrics without a monitor are added to the ones that have one."""
    alone = group != "metrics" or re.search(r"^monitor:", (CONF / group / f"{name}.yaml").read_text("utf-8"), re.M)
    return f"{group}={name}" if alone else f"{group}=[multiclass,{name}]"


@functools.cache
def _composed(*overrides: str) -> DictConfig:
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", list(overrides))


@functools.cache
def _pickled(*overrides: str) -> bytes:
    return pickle.dumps(_composed(*overrides))


@functools.cache
def _part(group: str, name: str) -> DictConfig:
    text = (CONF / group / f"{name}.yaml").read_text("utf-8")
    needs_hydra = re.search(r"^defaults:|^# *@package", text, re.MULTILINE)
    part: Any = _composed(f"{group}={name}")[group] if needs_hydra else OmegaConf.create(text)
    return DictConfig(OmegaConf.to_container(part))


def scheduled(name: str, *overrides: str) -> DictConfig:
    """The parts of a config that a schedule refers to, without composing a whole one for each yaml."""
    whole = _composed()
    parts = {key: OmegaConf.to_container(whole[key]) for key in ("trainer", "callbacks", "optimizer")}
    cfg = OmegaConf.create(parts | {"scheduler": _part("scheduler", name)} | DERIVED)
    cfg.merge_with_dotlist(list(overrides))
    return cfg


def composed(*overrides: str) -> DictConfig:
    """train.yaml with these, and with what follows from data of seven classes."""
    cfg: DictConfig = pickle.loads(_pickled(*overrides))  # faster than a deepcopy
    cfg.merge_with(DERIVED)
    cfg.run_dir = "run"
    return cfg
