"""Saves a run's config when the run begins, and loads it again to resume, evaluate or predict.

config.yaml keeps references to other keys and to the environment, so that an override of a loaded config changes all
keys that refer to it, and each machine uses its own folders. resolved.yaml has the resolved values, for people to read.
"""

import functools
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovea.config import untrusted
from fovea.config.keys import KEYS, dotted, names
from fovea.config.resolvers import CONF
from fovea.config.secrets import masked, secrets_in
from fovea.files import write_safely

OF_THIS_COMMAND = re.compile(r"\$\{(hydra|now|stamp|python_version)\b")  # resolvers that a later command can't repeat
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as resolved plain containers, secrets masked."""
    resolved = OmegaConf.to_container(cfg, resolve=True)
    return _masked(resolved, resolved)


def to_save(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as plain containers with its references, secrets masked.

    Two kinds of values are resolved: the network's, because trained weights fit no other network, and those that only
    this command knows, such as the time.
    """
    raw, resolved = OmegaConf.to_container(cfg), OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    return _masked(_without_this_command(raw, resolved) | {"model": resolved["model"]}, resolved)


def _without_this_command(raw: Any, resolved: Any) -> Any:
    if isinstance(raw, dict):
        return {key: _without_this_command(value, resolved[key]) for key, value in raw.items()}
    if isinstance(raw, list):
        return [_without_this_command(value, resolved[n]) for n, value in enumerate(raw)]
    return resolved if isinstance(raw, str) and OF_THIS_COMMAND.search(raw) else raw


def _masked(content: Any, resolved: Any) -> dict[str, Any]:
    hidden: dict[str, Any] = masked(content, secrets_in(resolved))
    return {str(key): value for key, value in hidden.items()}


def save(cfg: DictConfig, folder: Path) -> None:
    """Write both files into the folder of a run, or of an evaluation."""
    for name, content in (("resolved.yaml", plain(cfg)), ("config.yaml", to_save(cfg))):
        text = yaml.dump(content, Dumper=DUMPER, sort_keys=False, allow_unicode=True, width=120)
        write_safely(folder / name, text)


def load(typed: str, folder: Path, from_its_start: bool = False) -> dict[str, Any]:
    """Load a run's config, unresolved, with the folder's current path and this machine's own folders.

    Files that the run started from (the table's column `starts`) move to `started_from`, because its checkpoints have
    the weights. With `from_its_start` they stay in their keys, so that the run can be repeated.

    Args:
        typed: the override that named the folder, for the error message.
        folder: the run's.
        from_its_start: the config is for a run from the beginning.

    Raises:
        ValueError: there is no run in the folder, or the file is damaged.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise ValueError(f"{typed}: no run folder, because {file} does not exist")
    content = untrusted.read(file) | _of_this_machine() | {"run_dir": str(folder.resolve())}
    try:
        config = DictConfig(content)
        starts = [key for key in names("starts") if OmegaConf.select(config, key, default=config) is not config]
        begun = content.get("started_from") or {key: v for key in starts if (v := OmegaConf.select(config, key))}
        config.started_from = {} if from_its_start else begun
        for key in starts:
            OmegaConf.update(config, key, begun.get(key) if from_its_start else None)
    except (OmegaConfBaseException, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file} can't be read as a run's config: {str(error).splitlines()[0]}") from error
    base = OmegaConf.to_container(config)
    assert isinstance(base, dict)
    return {str(key): value for key, value in base.items()}


@functools.cache
def _of_this_machine() -> dict[str, Any]:
    """Return the folders of this machine, which train.yaml names (column `here` of keys.py)."""
    own = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml"))
    assert isinstance(own, dict)
    return {key: own[key] for key in names("here")}


def forget_limits(base: dict[str, Any]) -> None:
    """Remove the limits and the sampler of a training, which an evaluation must not use."""
    unlimited = {"fast_dev_run": False, "limit_test_batches": None, "limit_predict_batches": None}
    base["trainer"] |= {key: value for key, value in unlimited.items() if key in base["trainer"]}
    base["data"].pop("sampler", None)


def with_groups(base: dict[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """Replace the sections of the typed groups, such as `data=folder`, by those that train.yaml would compose.

    New data keep the run's values in the table's column `view`, such as image and batch size. Of a new trainer, only
    the values that differ from the default trainer's are taken.

    Raises:
        ValueError: the group can't be replaced in a run that has been trained.
    """
    fixed = [o.key_or_group for o in overrides if o.key_or_group not in groups()]
    if fixed:
        raise ValueError(f"{fixed[0]}= can't be chosen for a trained run; these can: {', '.join(groups())}")
    if not overrides:
        return base
    chosen = composed(*(o.input_line or "" for o in overrides))
    sections = {key: chosen[key] for o in overrides for key in groups()[o.key_or_group]}
    if "data" in sections:
        view = [key.removeprefix("data.") for key in names("view")]
        sections["data"] = sections["data"] | {key: base["data"][key] for key in view if key in base["data"]}
    if "trainer" in sections:
        default = composed()["trainer"]
        changed = {key: value for key, value in sections["trainer"].items() if value != default.get(key)}
        sections["trainer"] = base["trainer"] | changed
    return base | sections


@functools.cache
def groups() -> dict[str, list[str]]:
    """Return the groups of conf/ that can be chosen for a trained run, with the sections that each of them sets."""
    sections: dict[str, list[str]] = {}
    for key, row in KEYS.items():
        if row.group:
            sections.setdefault(row.group, []).append(key)
    return sections


def typed_keys(overrides: Sequence[Override]) -> frozenset[str]:
    """Return the dotted keys whose values were typed; of a typed mapping its keys, as it is merged into the config."""
    values = (o for o in overrides if not (CONF / o.key_or_group).is_dir())
    return frozenset(key for o in values for key, value in dotted(o.value(), o.key_or_group) if value != {})


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    """Compose train.yaml with these overrides, unresolved. The result is cached, so it must not be changed."""
    initialized = GlobalHydra.instance().is_initialized()  # always for conf/
    with nullcontext() if initialized else hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("train", list(overrides)))
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}
