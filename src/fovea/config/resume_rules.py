"""Compares a saved run's config with the one composed now, for resume=, rerun= and evaluations.

The column `resume` of the table in keys.py decides which keys resume= may change.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from fovea.config.keys import FIXED, dotted, names, row, rule
from fovea.config.resolvers import CONF
from fovea.config.saved import composed, groups, load, plain
from fovea.config.secrets import HIDDEN
from fovea.runs.results_file import results_of

log = logging.getLogger(__name__)

UNSET = "not set"
FOLLOWS = ("scheduler", "warmup", "callbacks.deferred_weights")  # the run's length
MOST = 3  # differences that a message lists


def unchanged_groups(folder: Path, typed: Sequence[Override], overrides: Iterable[Override]) -> list[Override]:
    """Return the typed groups that resume= can't replace but that equal the run's own, so that they are accepted."""
    places = {o.key_or_group: "data.sampler" if o.key_or_group == "sampler" else o.key_or_group for o in typed}
    fixed = [o for o in typed if o.key_or_group not in groups()]
    if not fixed:
        return []
    before = DictConfig(load("", folder, from_its_start=True))
    words = [o.input_line or "" for o in overrides if o.key_or_group not in ("resume", "force")]
    from_data = [key for key in names("from_data") if key in before]
    now = DictConfig(composed(*words) | {key: before[key] for key in from_data})
    values = {o.key_or_group: _value(before, places[o.key_or_group]) for o in fixed}
    return [o for o in fixed if values[o.key_or_group] == _value(now, places[o.key_or_group]) is not None]


def forced_changes(folder: Path, base: dict[str, Any], overrides: Sequence[Override], force: bool) -> list[str]:
    """Return the changes that need force=true, as "<key>: <value> then, <value> now".

    Args:
        folder: the run's.
        base: the run's config, with the typed groups in it.
        overrides: all overrides that were typed.
        force: allows such changes.

    Raises:
        ValueError: a fixed key was typed with another value; or there is such a change and `force` is not set.
    """
    typed = [o.key_or_group for o in overrides]
    then, now = DictConfig(load("", folder, from_its_start=True)), _with_values(base, overrides)
    found = {place: text for place, text in _differences(then, now) if not _is_free(place)}
    for place in (o.key_or_group for o in overrides if _has_no_value(o) and not _is_free(o.key_or_group)):
        found.setdefault(place, f"{place}: {_short(_value(then, place))} then")
    of_typed = {place: text for place, text in found.items() if any(_touch(place, key) for key in typed)}
    new_run = f"To begin a new run from its weights: weights={folder}/checkpoints/last.ckpt"
    for place, text in of_typed.items():
        if rule(place, "resume") == FIXED:
            raise ValueError(
                f"{place} can't be changed by resume=, as the checkpoint depends on it ({text})\n{new_run}"
            )
    # A fixed key that only follows from a changed key keeps its state in the checkpoint. `changed_schedule` logs it.
    texts = [text for place, text in (of_typed | found).items() if rule(place, "resume") != FIXED]
    if texts and not force:
        more = [f"and {len(texts) - MOST} more"] if len(texts) > MOST else []
        lines = [
            "resume= would change values that the run's weights and figures depend on:",
            *(texts[:MOST] + more),
            "force=true changes it from here on; the run will then not be reproducible from one command",
            new_run,
        ]
        raise ValueError("\n".join(lines))
    return texts


def _differences(then: DictConfig, now: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, "<key>: <value> then, <value> now") of every value that differs, secrets masked."""
    before, after = ({key: value for key, value in dotted(plain(cfg)) if value != {}} for cfg in (then, now))
    for key in before | after:
        old, new = before.get(key, UNSET), after.get(key, UNSET)
        if old != new and not rule(key, "own"):
            yield key, f"{key}: {_short(old)} then, {_short(new)} now"


def _touch(key: str, other: str) -> bool:
    return _lies_in(key, [other]) or _lies_in(other, [key])


def _is_free(place: str) -> bool:
    return rule(place, "resume") not in (None, FIXED)


def changed_schedule(cfg: DictConfig, folder: Path) -> list[str]:
    """Return the values of the schedule and of deferred weights that differ from the run's last start.

    They follow the run's length, which was changed.
    """
    then = DictConfig(load("", folder))
    return [text for place, text in _differences(then, cfg) if _lies_in(place, FOLLOWS)]


def _with_values(base: dict[str, Any], overrides: Iterable[Override]) -> DictConfig:
    """Set the values that were typed; groups are in the config already, and Hydra's own keys are not part of it."""
    now = OmegaConf.create(base)
    for o in overrides:
        if not (_has_no_value(o) or o.key_or_group.startswith("hydra") or (CONF / o.key_or_group).is_dir()):
            OmegaConf.update(now, o.key_or_group, o.value(), force_add=True)
    for key in names("starts"):
        if row(key).must_exist and now.get(key):
            now[key] = str(Path(now[key]).expanduser().absolute())
    return now


def _has_no_value(o: Override) -> bool:
    return o.is_sweep_override() or o.is_delete()


def _lies_in(key: str, places: Iterable[str]) -> bool:
    return any(f"{key}.".startswith(f"{place}.") for place in places)


def _value(cfg: DictConfig, place: str) -> Any:
    value = OmegaConf.select(cfg, place)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else "..."


def refuse_unfinished(typed: str, folder: Path) -> None:
    """Raise ValueError if the run is not finished, so that a rerun can't be compared with it."""
    file = folder / "results.json"
    if "averaged" in results_of(folder):
        raise ValueError(f"{typed}: its weights are an average (soup.json), so there is no training to repeat")
    status = results_of(folder)["status"] if file.is_file() else "missing"
    if status != "finished":
        raise ValueError(
            f"{typed}: a rerun is compared with a finished run, but the status in {file} is {status}\n"
            f"Finish the run first: resume={folder}"
            if file.is_file()
            else f"{typed}: there is no {file} to compare a rerun with: name the folder of a finished run"
        )


def changed_values(cfg: DictConfig, folder: Path) -> list[str]:
    """Return the differences to the config of the run in `folder`, as "<key>: <value> then, <value> now"."""
    then = DictConfig(load("", folder, from_its_start=True))
    for key in {*names("own")} & {*cfg}:  # references to these must not count as differences
        then[key] = cfg[key]
    return [text for _, text in _differences(then, cfg)]


def same_source(cfg: DictConfig, folder: Path) -> bool:
    """Whether the data are read from the same place, with the same options, as for the run in `folder`."""
    then, now = _value(DictConfig(load("", folder)), "data"), _value(cfg, "data")
    return all(then.get(key) == now.get(key) for key in then.keys() | now.keys() if not rule(f"data.{key}", "view"))


def divide_as_trained(cfg: DictConfig, folder: Path, words: Sequence[str]) -> None:
    """Set the keys of `division`, except those typed in `words`, before data are evaluated.

    If the data are those of the run in `folder`, they are divided and corrected as for its training. Other data are
    neither divided nor corrected.
    """
    typed = {o.key_or_group for o in OverridesParser.create().parse_overrides(list(words))}
    then, is_same = division_of(folder), same_place(cfg, folder)
    for key in division():
        if key in cfg.data and f"data.{key}" not in typed:
            cfg.data[key] = then.get(key, cfg.data[key]) if is_same else _none_of(f"data.{key}", cfg.data[key])


def _none_of(key: str, value: Any) -> Any:
    """Return the value of a key that divides nothing: None if the key may be null, else 0 or False."""
    return None if type(None) in get_args(row(key).type) else type(value)(0)


def division() -> list[str]:
    """Return the keys of `data` that set which split and which label the images have."""
    return [key.removeprefix("data.") for key in names("division")]


def division_of(folder: Path) -> dict[str, Any]:
    """Return the values of these keys in the config of the run in `folder`."""
    data = _value(DictConfig(load("", folder)), "data")
    return {key: data[key] for key in division() if key in data}


def warn_if_divided_otherwise(cfg: DictConfig, key: str, place: Path) -> None:
    """Warn if a training starts from, or learns from, a run on the same images that were divided in another way.

    Args:
        cfg: of the training.
        key: the key that names the run.
        place: its folder, or a file in it.
    """
    folder = next((folder for folder in (place, *place.parents)[:4] if (folder / "config.yaml").is_file()), None)
    try:
        changed = _division_changes(cfg, folder) if folder else []
    except ValueError:  # not a run's config
        return
    if changed:
        log.warning(
            "%s=%s: that run had the same images, divided in another way (%s), so it may have been trained on images "
            "that this run validates and tests on",
            *(key, place, "; ".join(changed)),
        )


def _division_changes(cfg: DictConfig, folder: Path) -> list[str]:
    """Return the changed keys that choose which images are trained on, if the files are the run's in `folder`."""
    then = division_of(folder) if same_place(cfg, folder) else {}
    same_images = ("corrections", "limit_per_class")  # change labels, and leave out training images
    return [
        f"data.{key}: {_short(value)} then, {_short(now)} now"
        for key, value in then.items()
        if key in cfg.data and key not in same_images and value != (now := _value(cfg, f"data.{key}"))
    ]


def same_place(cfg: DictConfig, folder: Path) -> bool:
    """Whether the data are the same files as the run's in `folder`, even if their division or view differ.

    Keys that only one of the configs has are not compared, as options change between versions.
    """
    then, now = (dict(dotted(_value(c, "data"), "data")) for c in (DictConfig(load("", folder)), cfg))
    keys = [key for key in then.keys() & now.keys() if not (rule(key, "view") or rule(key, "division"))]
    return all(_real_path(key, then[key]) == _real_path(key, now[key]) for key in keys if key != "data.read.cache")


def _real_path(key: str, value: Any) -> Any:
    """Follow the links in a value that is a path; other values stay as they are."""
    is_path = key in ("data.root", "data.store") and isinstance(value, str) and "://" not in value
    return os.path.realpath(os.path.expanduser(value)) if is_path else value


def refuse_masked_values(cfg: DictConfig) -> None:
    """Raise ValueError if a value was a secret, which the run's config does not keep."""
    for key in masked_keys(OmegaConf.to_container(cfg, resolve=True)):
        raise ValueError(
            f"{key} held a secret, which the run's config.yaml does not keep: type {key}=<value> again,\n"
            "or let conf/ refer to a variable of .env, as in ${oc.env:A_TOKEN}: references are kept"
        )


def masked_keys(content: Any) -> list[str]:
    """Return the dotted keys whose values were masked."""
    return [key for key, value in dotted(content) if HIDDEN in str(value)]
