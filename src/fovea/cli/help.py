"""Makes the text of `--help`: how to call a program, its groups with their options, and its keys.

Each key is described by its comment in conf/. Hydra's own help is not used because it loads every yaml twice.
"""

import json
import re
import shutil
import textwrap
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovea.cli import yaml_comments
from fovea.cli.command import Command
from fovea.config.resolvers import CONF
from fovea.config.secrets import secret_values, without_secrets

TRAIN = "train"
FRACTIONS = ("data.val_fraction", "data.test_fraction", "data.val_as_test", "data.folds", "data.fold")
GROUPED = ("data.group_column", "data.group_pattern")
SPLITS = ("data.root", *FRACTIONS, *GROUPED, "data.subset", "data.limit_per_class", "data.corrections")
DATA = (*SPLITS, "data.on_error")
LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.accumulate_grad_batches", "trainer.limit_train_batches")
VERIFY = ("data.split_seed", "data.store", "data.image_size", "data.background", "data.read", "data.num_workers")
RATES = ("optimizer", "lr_scaling", "lr_reference_batch", "scheduler", "warmup")
GROUPS = {  # train lists all groups
    "evaluate": ("data", "trainer"),
    "predict": ("trainer",),
    "report": (),
    "pack": ("data",),
    "browse": ("data", "augment"),
    "verify": ("data",),
    "plot_schedule": ("data", "model", "optimizer", "parameter_groups", "scheduler", "trainer", "warmup"),
    "find_lr": ("data", "model", "optimizer", "parameter_groups", "loss", "mixing", "trainer"),
    "find_batch_size": ("data", "model", "optimizer", "trainer"),
}
KEYS = {  # listed besides a program's own keys; train lists all keys
    "evaluate": (*DATA, "data.eval_image_size", "data.batch_size", "data.num_workers"),
    "predict": ("data.eval_image_size", "data.batch_size", "data.num_workers"),
    "report": (),
    "pack": (*DATA, "data.split_seed", "data.background", "data.read"),
    "plot_schedule": (*SPLITS, *LENGTH, "data.batch_size", "data.sampler", "freeze", *RATES),
    "find_lr": (*SPLITS, "data.batch_size", "freeze", "weights", "optimizer", "lr_scaling", "trainer.precision"),
    "find_batch_size": (*SPLITS, "data.image_size", "freeze", "compile", "gradient_checkpointing", "trainer.precision"),
    "verify": (*SPLITS, *VERIFY),
    "browse": (*DATA, "data.store", "data.image_size", "data.background", "data.read", "augment", "seed"),
}
FIRST = (
    "",
    "checkpoint",
    "data",
    "model",
    "optimizer",
    "scheduler",
    "loss",
    "trainer",
)  # sections in this order, then the others
ROOT = "Keys and their values"
COLUMN = 32  # where descriptions begin
NOTES = (
    "group=option chooses conf/<group>/<option>.yaml, group=[a,b] several of them; key=value sets a value, +key=value "
    "adds a key. --cfg job shows the whole config and runs nothing. --hydra-help and --info are Hydra's own."
)


def help_text(command: Command) -> str:
    """Return the help of the command's program; values and options are shown as the overrides set them."""
    name, words = command.config_name, [word for word in command.words if not word.startswith("-")]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose(name, words, return_hydra_config=True)
    choices = {"data": "base/images"} | dict(cfg.hydra.runtime.choices)
    width = min(shutil.get_terminal_size((80, 24)).columns, 120)
    lines = [yaml_comments.head((CONF / f"{name}.yaml").read_text("utf-8")), *_group_lines(name, choices, width)]
    described = descriptions(name, choices)
    lines += [*_key_lines(name, _values(cfg, described), described, width), "", *textwrap.wrap(NOTES, width)]
    return without_secrets("\n".join(lines), secret_values())


def descriptions(name: str, choices: dict[str, Any]) -> dict[str, str]:
    """Dotted key -> description, from the program's yaml and each group's chosen yaml.

    All yamls are read of a group in which several can be chosen.
    """
    found: dict[str, str] = {}
    for group in sorted(folder for folder in CONF.iterdir() if folder.is_dir()):
        option = choices.get(group.name, "*")
        for file in sorted(group.glob(f"{option}.yaml")) if option else ():
            found |= yaml_comments.described(file, group.name)
    return found | yaml_comments.described(CONF / f"{name}.yaml")


def _group_lines(name: str, choices: dict[str, Any], width: int) -> Iterator[str]:
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra")
    shown = [folder for folder in folders if name == TRAIN or folder.name in GROUPS.get(name, ())]
    if shown:
        yield "\nGroups and their options"
    for folder in shown:
        chosen = choices.get(folder.name, "[...]") if name not in ("evaluate", "predict") else "..."
        options = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        yield from _row(f"{folder.name}={'null' if chosen is None else chosen}", options, width)


def _key_lines(name: str, values: dict[str, str], words: dict[str, str], width: int) -> Iterator[str]:
    """A row for each key, by section."""
    sections: dict[str, list[str]] = {}
    for key in _shown(name, values, words):
        row = _row(f"{key}={values[key]}" if key in values else key, words.get(key, ""), width)
        sections.setdefault(key.partition(".")[0] if "." in key else "", []).extend(row)
    for section in sorted(sections, key=lambda title: FIRST.index(title) if title in FIRST else len(FIRST)):
        title = f"{section}: {words[section]}" if section in words else section or ROOT
        yield from ["", *textwrap.wrap(title, width), *sections[section]]


def _shown(name: str, values: Iterable[str], described: Container[str]) -> list[str]:
    """Return the dotted keys to list. If no run is typed, some of them are described but not in the config.

    A key that has the name of its group, such as imbalance, is listed among the groups.
    """
    present = [key for key in values if not key.startswith("hydra.") and not (CONF / key).is_dir()]
    if name == TRAIN:
        return [*present, "hydra.run.dir", "hydra.sweep.dir"]
    own = re.findall(r"(?m)^(?!defaults|hydra|usual)(\w+):", (CONF / f"{name}.yaml").read_text("utf-8"))
    for extra in KEYS.get(name, ()):
        found = [key for key in present if key == extra or key.startswith(f"{extra}.")]
        own += found or [extra] * (extra in described)
    return [*own, "hydra.run.dir"]


def _values(cfg: DictConfig, described: Container[str]) -> dict[str, str]:
    """Dotted key -> its value as it would be typed. Keys that only refer to another key are left out."""
    leaves = dict(_leaves(OmegaConf.to_container(cfg)))
    return {key: _typed(cfg, key, raw) for key, raw in leaves.items() if key in described or "${" not in str(raw)}


def _leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{place}{key}.")
        elif not str(key).startswith("_"):
            yield f"{place}{key}", value


def _typed(cfg: DictConfig, key: str, raw: Any) -> str:
    """Return a value as text. An expression is replaced by its result if that is a number, a word or a list."""
    if isinstance(raw, str) and "${" in raw and not key.startswith("hydra."):
        with suppress(OmegaConfBaseException):
            computed = OmegaConf.select(cfg, key)
            if OmegaConf.is_list(computed):
                raw = OmegaConf.to_container(computed)
            elif isinstance(computed, int | float) or (isinstance(computed, str) and computed.isidentifier()):
                raw = computed
    return (
        raw if isinstance(raw, str) and raw else json.dumps(raw, separators=(",", ":"), ensure_ascii=False, default=str)
    )


def _row(key: str, description: str, width: int) -> list[str]:
    """Return the lines of a key. Its description begins at COLUMN, on the next line if the key is too long."""
    key = f"  {key}" if len(key) <= width - 2 else f"  {key[: width - 5]}..."
    lines = textwrap.wrap(description, width - COLUMN)
    first = key.ljust(COLUMN) + lines.pop(0) if lines and len(key) < COLUMN else key
    return [first, *(" " * COLUMN + line for line in lines)]
