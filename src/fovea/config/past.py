"""A run's config as it was against the one composed now: what resuming may change, and what a repetition does."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from fovea.config.files import results_of
from fovea.config.resolvers import CONF
from fovea.config.saved import REPLACEABLE, composed, load, plain
from fovea.config.secrets import HIDDEN

FIXED = (  # what the checkpoint brings along, or what has to fit it: another value would be recorded and not used
    *("model", "optimizer", "parameter_groups", "scheduler", "weights", "ckpt_path"),
    *("task", "num_classes", "class_names"),
)
PAST = (  # another value would be used from now on: no command gives such a run from its beginning
    *("seed", "monitor", "mode", "sampler", "preprocess", "loss", "augment", "mixing"),
    *("data.sampler", "data.batch_size", "data.image_size", "data.background", "data.decode"),
    *("trainer.accumulate_grad_batches", "trainer.precision", "trainer.overfit_batches"),
)
LOOKED_AT = (  # how a dataset's images are read, as opposed to which they are
    *("image_size", "background", "batch_size", "num_workers", "on_error", "sampler"),
    *("decode", "resident", "store_cache"),
)
CARVING = ("val_fraction", "test_fraction", "split_seed")  # how splits that a dataset lacks are taken from its train
OWN = (  # each run's own, or what can't change a figure
    *("run_dir", "runs_dir", "project_dir", "output_dir", "rerun", "resume", "force", "forced", "started_from"),
    *("logger", "total_steps"),
)


def as_they_were(folder: Path, groups: Sequence[Override], overrides: Iterable[Override]) -> list[Override]:
    """Which of the groups that can't be chosen anew bring what the run in `folder` has: they can be typed again."""
    places = {o.key_or_group: "data.sampler" if o.key_or_group == "sampler" else o.key_or_group for o in groups}
    fixed = [o for o in groups if o.key_or_group not in REPLACEABLE]
    if not fixed:
        return []
    before = DictConfig(load("", folder, from_its_start=True))
    words = [o.input_line or "" for o in overrides if o.key_or_group not in ("resume", "force")]
    now = DictConfig(composed(*words) | {key: before[key] for key in ("task", "num_classes", "class_names")})
    values = {o.key_or_group: _value(before, places[o.key_or_group]) for o in fixed}
    return [o for o in fixed if values[o.key_or_group] == _value(now, places[o.key_or_group]) is not None]


def forced(folder: Path, base: dict[str, Any], overrides: Sequence[Override], force: bool) -> list[str]:
    """Which of PAST the overrides change, "<key>: <value> then, <value> now" each; typed as they were they change none.

    Args:
        base: the config of the run in `folder`, with the groups that were chosen in the place of its own.
        overrides: all that were typed.

    Raises:
        ValueError: they change one of FIXED; or one of PAST, and `force` is not set.
    """
    then, now = DictConfig(load("", folder, from_its_start=True)), _with_values(base, overrides)
    found = {}
    for place in dict.fromkeys(place for o in overrides for place in _places(o.key_or_group)):
        was, is_now = _value(then, place), _value(now, place)
        if was != is_now or any(o.key_or_group == place and _is_no_value(o) for o in overrides):
            found[place] = f"{place}: {_short(was)} then, {_short(is_now)} now"
    anew = f"To begin a new run from its weights: weights={folder}/checkpoints/last.ckpt"
    for place, text in found.items():
        if _lies_in(place, FIXED):
            raise ValueError(f"{place} can't be changed by resume=, it is what the run began with ({text})\n{anew}")
        if not force:
            raise ValueError(
                f"{place} would no longer be what the run began with ({text})\n"
                f"force=true changes it from here on; no command repeats such a run\n{anew}"
            )
    return list(found.values())


def _with_values(base: dict[str, Any], overrides: Iterable[Override]) -> DictConfig:
    """The config with the values that were typed; groups are in it already."""
    now = OmegaConf.create(base)
    for o in overrides:
        if not _is_no_value(o) and not (CONF / o.key_or_group).is_dir():
            OmegaConf.update(now, o.key_or_group, o.value(), force_add=True)
    for key in ("weights", "ckpt_path"):
        if now.get(key):
            now[key] = str(Path(now[key]).expanduser().absolute())
    return now


def _is_no_value(o: Override) -> bool:
    return o.is_sweep_override() or o.is_delete()


def _places(key: str) -> list[str]:
    """Where FIXED and PAST are touched: the key itself where it lies in one of them, else those that lie in it."""
    if _lies_in(key, (*FIXED, *PAST)):
        return [key]
    return [place for place in (*FIXED, *PAST) if _lies_in(place, [key])]


def _lies_in(key: str, places: Iterable[str]) -> bool:
    return any(f"{key}.".startswith(f"{place}.") for place in places)


def _value(cfg: DictConfig, place: str) -> Any:
    value = OmegaConf.select(cfg, place)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else "..."


def refuse_unfinished(said: str, folder: Path) -> None:
    """Raises ValueError where there is nothing yet to compare a repetition with."""
    file = folder / "results.json"
    status = results_of(folder)["status"] if file.is_file() else "missing"
    if status != "finished":
        raise ValueError(
            f"{said}: a repetition is compared with a finished run, and {file} says {status}\n"
            f"Finish that one first: resume={folder}"
            if file.is_file()
            else f"{said}: there is no {file} to compare a repetition with"
        )


def other_values(cfg: DictConfig, folder: Path) -> list[str]:
    """What the config has otherwise than the run's in `folder`, "<key>: <value> then, <value> now" each."""
    then = DictConfig(load("", folder, from_its_start=True))
    for key in set(OWN) & set(cfg):
        then[key] = cfg[key]
    before, now = dict(_flat(plain(then))), dict(_flat(plain(cfg)))
    keys = [key for key in before | now if not _lies_in(key, OWN) and before.get(key) != now.get(key)]
    return [f"{key}: {_short(before.get(key))} then, {_short(now.get(key))} now" for key in keys]


def same_source(cfg: DictConfig, folder: Path) -> bool:
    """Whether the data are read from where the run in `folder` read its own."""
    then, now = _value(DictConfig(load("", folder)), "data"), _value(cfg, "data")
    return all(then.get(key) == now.get(key) for key in (then.keys() | now.keys()) - set(LOOKED_AT))


def divide_as_trained(cfg: DictConfig, folder: Path, words: Sequence[str]) -> None:
    """Set how the data that is evaluated is divided, except for what was typed in `words`.

    The data of the run in `folder` are divided as for its training; other data are not divided.
    """
    typed = {o.key_or_group for o in OverridesParser.create().parse_overrides(list(words))}
    then, own = carving_of(folder), same_place(cfg, folder)
    for key in CARVING:
        if key in cfg.data and f"data.{key}" not in typed:
            cfg.data[key] = then.get(key, cfg.data[key]) if own else type(cfg.data[key])(0)


def carving_of(folder: Path) -> dict[str, Any]:
    """Those of CARVING that the data of the run in `folder` had."""
    data = _value(DictConfig(load("", folder)), "data")
    return {key: data[key] for key in CARVING if key in data}


def same_place(cfg: DictConfig, folder: Path) -> bool:
    """Whether the data are in the place where the run in `folder` had its own, however they are divided and looked at.

    Keys that only one of the configs has are not compared: options come and go between versions.
    """
    then, now = (dict(_flat(_value(c, "data"))) for c in (DictConfig(load("", folder)), cfg))
    ignored = (*LOOKED_AT, *CARVING, "read.cache")
    keys = [key for key in then.keys() & now.keys() if not _lies_in(key, ignored)]
    return all(_real(key, then[key]) == _real(key, now[key]) for key in keys)


def _real(key: str, value: Any) -> Any:
    """A path with its links followed."""
    is_path = key in ("root", "store") and isinstance(value, str) and "://" not in value
    return os.path.realpath(os.path.expanduser(value)) if is_path else value


def refuse_hidden(cfg: DictConfig) -> None:
    """Raises ValueError where a value was a secret, which no run folder keeps."""
    for key, value in _flat(OmegaConf.to_container(cfg, resolve=True)):
        if HIDDEN in str(value):
            raise ValueError(
                f"{key} held a secret, and the run's config.yaml doesn't keep those: type {key}=<value> again,\n"
                "or name a variable of .env in conf/, as in ${oc.env:A_TOKEN}: that stays as it is"
            )


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
