"""A config as a file: resolved and masked when a run begins, and taken up again to resume, evaluate or predict."""

import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from fovea.config import untrusted
from fovea.config.resolvers import CONF
from fovea.config.secrets import HIDDEN, SECRET, SHORTEST, secret_values, without_values
from fovea.files import write_safely

OUTSIDE = re.compile(r"\$\{(oc\.env|hydra|now|stamp|project_dir|cpu_count)\b")  # resolvers that look beyond the config
STARTS = ("weights", "ckpt_path", "model.weights", "model.ckpt_path")  # what a training may begin with
REPLACEABLE = {  # group -> the root keys it brings
    "data": ["data"],
    "augment": ["augment"],
    "metrics": ["metrics", "per_class_metrics"],
    "trainer": ["trainer"],
    "callbacks": ["callbacks"],
    "logger": ["logger"],
}
HERE = ("project_dir", "runs_dir", "data_dir")  # each machine's own
AS_TRAINED = ("image_size", "background", "batch_size", "num_workers", "on_error", "sampler")


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as resolved plain containers, secrets masked."""
    raw, resolved = OmegaConf.to_container(cfg), OmegaConf.to_container(cfg, resolve=True)
    masked = _masked(resolved, raw, [*secret_values(), *_secrets(resolved)])
    assert isinstance(masked, dict)
    return masked


def _secrets(node: Any, key: str = "") -> Iterator[str]:
    """The texts under names of secrets, which other values may repeat."""
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else ((key, value) for value in node)
        for name, value in items:
            yield from _secrets(value, str(name))
    elif isinstance(node, str | int) and SECRET.search(key) and len(str(node)) >= SHORTEST:
        yield str(node)


def _masked(value: Any, raw: Any, secrets: Sequence[str], key: str = "") -> Any:
    """Secrets become ***; one that the yaml takes from the environment stays the reference that it is."""
    if isinstance(value, dict):
        return {str(k): _masked(v, raw[k] if isinstance(raw, dict) else v, secrets, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        raws = raw if isinstance(raw, list) else value
        return [_masked(v, r, secrets, key) for v, r in zip(value, raws, strict=True)]
    if isinstance(value, int) and SECRET.search(key) and len(str(value)) >= SHORTEST:  # a number, but True is none
        return HIDDEN
    if not isinstance(value, str):
        return value
    text = HIDDEN if SECRET.search(key) else without_values(value, secrets)
    return without_values(raw, secrets) if text != value and isinstance(raw, str) and "${" in raw else text


def save(cfg: DictConfig, file: Path) -> None:
    """Write the config, resolved, and under `references` which of its values follow from others.

    With those put back (`load`), an override of a saved config moves what follows from it, as it did at first.
    """
    content = plain(cfg) | {"references": references_of(cfg)}
    write_safely(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def references_of(cfg: DictConfig) -> dict[str, str]:
    """Which values follow from other keys of the same config: dotted path -> expression, secrets masked."""
    references = dict(_references(OmegaConf.to_container(cfg)))
    return {path: without_values(raw, secret_values()) for path, raw in references.items()}


def _references(raw: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, expression) of every value that is computed from other keys of the same config.

    But for the network's: what has been trained doesn't change with the data that it is shown later.
    """
    if path == "model":
        return
    if isinstance(raw, dict | list):
        items = raw.items() if isinstance(raw, dict) else enumerate(raw)
        for key, value in items:
            yield from _references(value, f"{path}.{key}" if path else str(key))
    elif isinstance(raw, str) and "${" in raw and not OUTSIDE.search(raw):
        yield path, raw


def load(said: str, folder: Path, from_its_start: bool = False) -> dict[str, Any]:
    """A run's config with its references put back, for its folder as it is called now and this machine's (HERE).

    What the run began with (STARTS) moves to `started_from`, for its checkpoints have the weights; with
    `from_its_start` it is put where the run had it.

    Raises:
        ValueError: `said`, what the user typed, names no run folder.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise ValueError(f"{said}: no run folder, for there is no {file}")
    content = untrusted.read(file)
    references = content.pop("references", {})
    if isinstance(references, dict):
        references.pop("mode", None)  # runs from before metrics said it have one, and what it resolved to
    saved = untrusted.put_back(file, content, references)
    saved.run_dir = str(folder.resolve())
    own = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml"))
    assert isinstance(own, dict)
    for key in HERE:
        saved[key] = own[key]
    there = [path for path in STARTS if path.rpartition(".")[2] in (saved.model if "." in path else saved)]
    started_from = content.pop("started_from", {}) or {p: v for p in there if (v := OmegaConf.select(saved, p))}
    saved.started_from = {} if from_its_start else started_from
    for path in there:
        OmegaConf.update(saved, path, started_from.get(path) if from_its_start else None)
    base = OmegaConf.to_container(saved)
    assert isinstance(base, dict)
    return {str(key): value for key, value in base.items()}


def forget_limits(base: dict[str, Any]) -> None:
    """What kept a training short, or chose its images, is nothing that an evaluation should follow or ask for."""
    unlimited = {"fast_dev_run": False, "limit_test_batches": None, "limit_predict_batches": None}
    base["trainer"] |= {key: value for key, value in unlimited.items() if key in base["trainer"]}
    base["data"].pop("sampler", None)  # runs from before there were samplers have none


def with_groups(base: dict[str, Any], overrides: list[Override]) -> dict[str, Any]:
    """The config with the nodes that group choices such as `data=folder` bring, as train.yaml would have them.

    Other data are still seen as the run saw its own: at its image size, on its background, in its batches. Of another
    trainer, what differs from the default one is taken.

    Raises:
        ValueError: the group can't be replaced in a run that has been trained.
    """
    strange = [o.key_or_group for o in overrides if o.key_or_group not in REPLACEABLE]
    if strange:
        raise ValueError(f"{strange[0]}= can't be chosen for a trained run; these can: {', '.join(REPLACEABLE)}")
    if not overrides:
        return base
    chosen = composed(*(o.input_line or "" for o in overrides))
    nodes = {key: chosen[key] for o in overrides for key in REPLACEABLE[o.key_or_group]}
    if "data" in nodes:
        as_trained = {key: base["data"][key] for key in AS_TRAINED if key in base["data"]}
        nodes["data"] = nodes["data"] | as_trained
    if "trainer" in nodes:
        default = composed()["trainer"]
        news = {key: value for key, value in nodes["trainer"].items() if value != default.get(key)}
        nodes["trainer"] = base["trainer"] | news
    return base | nodes


def trusted(base: dict[str, Any], groups: list[Override], overrides: list[Override]) -> frozenset[str]:
    """Dotted keys of the user's word: of the values that are typed, and of those that the yamls of `groups` bring.

    Args:
        base: the config with the groups in it.
        groups: those that were chosen.
        overrides: all that were typed.
    """
    values = [o for o in overrides if not (CONF / o.key_or_group).is_dir()]
    typed = {place for o in values for place in _leaves(o.value(), o.key_or_group)}
    chosen = composed(*(o.input_line or "" for o in groups)) if groups else {}
    brought = dict(untrusted.texts({key: chosen[key] for o in groups for key in REPLACEABLE[o.key_or_group]}))
    return frozenset(typed | {place for place, text in untrusted.texts(base) if brought.get(place) == text})


def _leaves(value: Any, place: str) -> Iterator[str]:
    """A mapping that is typed is merged into the one that is there: its own keys alone are the user's."""
    if not isinstance(value, dict):
        yield place
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{place}.{key}")


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    """train.yaml with these, nothing of it resolved; the same containers each time, not to be changed."""
    begun = GlobalHydra.instance().is_initialized()  # for conf/ too
    with nullcontext() if begun else hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("train", list(overrides)))
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}
