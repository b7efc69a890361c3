"""Suggests overrides for options, keys and yaml names that other programs have and fovea does not."""

import difflib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from fovea.config.resolvers import CONF

ALIASES = {  # names that other programs have for our keys
    "optimizer.lr": "lr learning_rate base_lr",
    "optimizer.weight_decay": "wd weight_decay",
    "optimizer.momentum": "momentum",
    "trainer.max_epochs": "e epoch epochs num_epochs n_epochs max_epochs",
    "trainer.max_steps": "steps max_steps num_steps iterations",
    "trainer.devices": "gpus devices num_gpus",
    "trainer.accelerator": "device accelerator",
    "trainer.accumulate_grad_batches": "grad_accum accumulation_steps gradient_accumulation_steps",
    "trainer.gradient_clip_val": "clip_grad grad_clip gradient_clip_val",
    "data.batch_size": "b bs batch batch_size",
    "data.num_workers": "j workers num_workers",
    "data.image_size": "imgsz img_size image_size input_size resolution",
    "data.root": "root data_path dataset_path data_root",
    "loss.label_smoothing": "smoothing label_smoothing",
    "model": "a arch net network backbone",
    "optimizer": "opt optim",
    "scheduler": "sched lr_scheduler",
    "loss": "criterion",
    "data": "dataset data_dir",
    "task_name": "name exp_name experiment_name run_name",
    "weights": "checkpoint ckpt init_from",
    "hydra.run.dir": "output_dir out_dir save_dir",
    "seed": "random_seed manual_seed",
}
FLAGS = {"pretrained": "model.weights=DEFAULT", "amp": "trainer.precision=16-mixed"}
KEYS = {name: key for key, names in ALIASES.items() for name in names.split()}
SWITCHES = {  # Hydra's
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}
PLUGINS = {
    "hydra/launcher/joblib": "hydra-joblib-launcher",
    "hydra/launcher/ray": "hydra-ray-launcher",
    "hydra/launcher/rq": "hydra-rq-launcher",
    "hydra/launcher/submitit_local": "hydra-submitit-launcher",
    "hydra/launcher/submitit_slurm": "hydra-submitit-launcher",
    "hydra/sweeper/ax": "hydra-ax-sweeper",
    "hydra/sweeper/nevergrad": "hydra-nevergrad-sweeper",
    "hydra/job_logging/colorlog": "hydra-colorlog",
    "hydra/hydra_logging/colorlog": "hydra-colorlog",
}


def refuse_options(words: Sequence[str]) -> None:
    """Raises ValueError for words such as `--lr 0.1`, with the overrides to type instead."""
    options: list[str] = []
    suggestions: list[str] = []
    n = 0
    while n < len(words):
        name, equals, value = words[n].partition("=")
        if name.startswith("-") and name not in SWITCHES:
            alone = equals or n + 1 == len(words) or words[n + 1].startswith("-") or "=" in words[n + 1]
            options.append(words[n] if alone else f"{words[n]} {words[n + 1]}")
            n += not alone
            suggestions.append(_override(name.lstrip("-").replace("-", "_"), value if alone else words[n]))
        n += 1
    if options:
        raise ValueError(
            f"{' '.join(options)}: values are typed as key=value, without dashes\nType: {' '.join(suggestions)}"
        )


def aliased(words: Sequence[str]) -> list[str]:
    """Return a suggestion for each word whose key is another program's name for one of fovea's keys."""
    pairs = [word.lstrip("+").partition("=") for word in words]
    return [_override(key, value) for key, _, value in pairs if key.replace("-", "_") in {**KEYS, **FLAGS}]


def _override(name: str, value: str) -> str:
    name = name.replace("-", "_") if "." not in name else name
    if name in FLAGS:
        return FLAGS[name]
    key = KEYS.get(name, name)
    if (CONF / key).is_dir() and value:
        return _choice(key, value)
    exists = "." in key or key in _first_keys()
    near = [] if exists else difflib.get_close_matches(name, [*KEYS, *_first_keys()], n=1, cutoff=0.8)
    if near:
        return _override(near[0], value)
    return f"{key}={shlex.quote(value) if value else '<value>'}" if exists else f"<key>={value} (--help lists the keys)"


def _first_keys() -> set[str]:
    """Return the keys without a dot, and the groups, of all programs."""
    texts = [file.read_text("utf-8") for file in CONF.glob("*.yaml")]
    return {key for text in texts for key in re.findall(r"(?m)^(\w+):", text)} | {file.name for file in CONF.iterdir()}


def _choice(group: str, option: str) -> str:
    """Return the override that chooses a yaml of a group; if there is no such yaml, the nearest suggestion."""
    if (CONF / group / f"{option}.yaml").is_file():
        return f"{group}={option}"
    suggested = replacements(group, option)
    return suggested[0] if suggested else f"{group}={(near_options(group, option) or [option])[0]}"


def replacements(group: str, option: str) -> list[str]:
    """Return what to type if the option is a network's name or a folder's path; nothing for other options."""
    if group == "model" and not near_options(group, option, cutoff=0.8):
        name = re.sub(r"(?<=net)-", "", option.rpartition("/")[2].lower())
        of_timm = f"model=timm model.name={shlex.quote(name)}"  # a timm name may end in a dot and the weights' tag
        return [of_timm] if "." in name else [f"model=torchvision model.name={shlex.quote(name)}", of_timm]
    if group == "data" and ("/" in option or "\\" in option or Path(option).expanduser().is_dir()):
        return [f"data=folder data.root={shlex.quote(option)}"]
    return []


def near_options(group: str, option: str, cutoff: float = 0.6) -> list[str]:
    """Return the group's yamls that the option may name: by another spelling, initials, a class or a similar name."""
    found = [file for file in sorted((CONF / group).glob("*.yaml")) if _names_yaml(file, _plain(option))]
    if found:
        return [file.stem for file in found]
    options = {_plain(file.stem): file.stem for file in sorted((CONF / group).glob("*.yaml"))}
    begins = [stem for name, stem in options.items() if len(name) > 2 and _plain(option).startswith(f"{name}with")]
    return begins or [options[name] for name in difflib.get_close_matches(_plain(option), options, cutoff=cutoff)]


def _names_yaml(file: Path, option: str) -> bool:
    """Whether `option` names the yaml or the class that it builds: SGD, OneCycle, ce, CrossEntropyLoss."""
    initials = "".join(part[0] for part in file.stem.split("_"))
    classes = re.findall(r"(?m)^_target_: [\w.]*\.(\w+)$", file.read_text("utf-8"))
    return option in (_plain(file.stem), *(_plain(name) for name in classes)) or (
        option == initials and len(option) > 1
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def missing_plugin(asked: str) -> str | None:
    """Return how to install a plugin such as `hydra/launcher/joblib`; None for any other option."""
    group, _, option = asked.rpartition("/")
    if asked not in PLUGINS:
        return None
    return f"{group}={option} is a plugin of Hydra that is not installed: pip install {PLUGINS[asked]}"
