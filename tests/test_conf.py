"""Every yaml of every group composes, and what its `_target_`s name can be called with its keys."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import hydra
import pytest
from conf_groups import GROUPS, chosen, composed
from fast_composing import without_cache
from hydra.core.config_store import ConfigStore
from hydra.utils import get_object, instantiate
from lightning import Trainer
from omegaconf import OmegaConf

from fovea.config.resolvers import CONF, PROJECT, register_resolvers

# The n-th option of every group at once, so that a few composed configs hold every yaml. Their parts are looked at one
# by one, so it doesn't matter that some would not train together. Schedules are the most: optim/ builds each of them.
CHOOSE_FOR_OTHERS = ("experiment", "debug", "imbalance")
TOGETHER = {group: names for group, names in GROUPS.items() if group not in (*CHOOSE_FOR_OTHERS, "scheduler")}
COLUMNS = [
    [chosen(group, names[n % len(names)]) for group, names in TOGETHER.items()]
    for n in range(max(map(len, TOGETHER.values())))
]
COLUMNS += [[f"{group}={name}"] for group in CHOOSE_FOR_OTHERS for name in GROUPS.get(group, ())]
GIVEN = ["data.root=x", "cosine_scale=30"]  # the second is for loss=ldam
SMALL = ("loss", "metrics", "per_class_metrics", "augment", "callbacks", "parameter_groups")


def targets(node: Any) -> Iterator[dict[str, Any]]:
    """Every node with a `_target_`, at any depth."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


@pytest.mark.parametrize("overrides", COLUMNS, ids=" ".join)
def test_the_yamls_compose_and_their_targets_take_their_keys(overrides: list[str]) -> None:
    cfg = composed(*overrides, *GIVEN)
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    for node in targets(config):
        known = ("_target_", "_partial_", "_convert_", "_args_", "interval")
        keys = {key: value for key, value in node.items() if key not in known}
        inspect.signature(get_object(node["_target_"])).bind_partial(**keys)
    for group in SMALL:
        built = instantiate(cfg[group], _convert_="all")
        assert not list(targets(built)), f"{group}: a part was left unbuilt"


def test_no_yaml_is_left_out() -> None:
    tried = {override for column in COLUMNS for override in column}
    tried |= {chosen("scheduler", name) for name in GROUPS["scheduler"]}
    assert tried == {chosen(group, name) for group, names in GROUPS.items() for name in names}


def test_trainer_offers_every_argument_of_lightnings() -> None:
    ours = set(OmegaConf.load(CONF / "trainer" / "default.yaml")) - {"_target_"}
    theirs = set(inspect.signature(Trainer).parameters) - {"callbacks", "logger"}
    assert theirs == ours


def test_multilabel_data_alone_brings_its_loss_and_its_metrics() -> None:
    cfg = composed("data=multilabel_csv", *GIVEN)
    assert cfg.loss._target_ == "fovea.losses.bce.BinaryCrossEntropy"
    assert cfg.monitor == "val/mAP"
    assert "mAP" in cfg.metrics


def test_the_stem_follows_from_the_image_size_unless_it_is_typed() -> None:
    small, large = (composed("model=se_resnet", f"data.image_size={size}") for size in (32, 224))
    typed = composed("model=se_resnet", "data.image_size=32", "model.stem=standard")
    assert (small.model.stem, large.model.stem, typed.model.stem) == ("small", "standard", "standard")


FOLDERS = {  # program -> the name of its log, its folder, a sweep's folder
    "train": ("train", "runs/task/<stamp>", "runs/task/sweep_<stamp>/0"),
    "rerun": ("train", "runs/task/<stamp>", "runs/task/sweep_<stamp>/0"),
    "resume": ("train", "runs/task/before", "runs/task/sweep_<stamp>/0"),
    "evaluate": ("evaluate", "runs/task/before/evaluate/<stamp>", "runs/task/before/evaluate/sweep_<stamp>/0"),
    "predict": ("predict", "runs/task/before/predict/<stamp>", "runs/task/before/predict/sweep_<stamp>/0"),
    "pack": ("pack", ".", "runs/task/sweep_<stamp>/0"),
    "plot_schedule": ("plot_schedule", ".", "runs/task/sweep_<stamp>/0"),
    "find_lr": ("find_lr", ".", "runs/task/sweep_<stamp>/0"),
    "find_batch_size": ("find_batch_size", ".", "runs/task/sweep_<stamp>/0"),
    "verify": ("verify", ".", "runs/task/sweep_<stamp>/0"),
    "browse": ("browse", ".", "runs/task/sweep_<stamp>/0"),
}


@pytest.mark.parametrize("program", FOLDERS)
def test_each_program_writes_to_its_own_folder(program: str) -> None:
    register_resolvers()
    ConfigStore.instance().store(name="run_config", node={})
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose(program, return_hydra_config=True)
    here = {"runs_dir": "runs", "task_name": "task", "run": "runs/task/before", "resume": "runs/task/before"}
    cfg.hydra.job.num = 0
    options = OmegaConf.merge(here, {"hydra": cfg.hydra}).hydra
    folders = (options.run.dir, f"{options.sweep.dir}/{options.sweep.subdir}")
    stamped = [re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\w{6}", "<stamp>", folder) for folder in folders]
    assert (options.job.name, *stamped) == FOLDERS[program]


def test_a_cached_config_equals_the_one_that_hydra_composes() -> None:
    words = ["data=folder", "model=se_resnet", "callbacks=[default,ema]", "seed=3"]

    def whole() -> Any:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return OmegaConf.to_container(hydra.compose("train", words, return_hydra_config=True))

    _, again = whole(), whole()
    with without_cache():
        assert again == whole()


def test_every_variable_that_the_conf_reads_is_in_the_example() -> None:
    read = {name for file in CONF.rglob("*.yaml") for name in re.findall(r"oc\.env:(\w+)", file.read_text())}
    offered = set(re.findall(r"^# (\w+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE))
    assert {"IMAGENET_DIR", "DATA_DIR", "RUNS_DIR"} <= read <= offered
