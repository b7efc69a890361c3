"""Compares a run's config with the one composed now: what resume= may change, and what a repetition does otherwise.

The rules are in the table of keys.py: `resume` says why a key may change, or that it is fixed.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from fovea.config.keys import FIXED, dotted, names, row, rule
from fovea.config.resolvers import CONF
from fovea.config.saved import composed, groups, load, plain
from fovea.config.secrets import HIDDEN
from fovea.runs.results_file import results_of

UNSET = "not set"
MOST = 3  # differences that are listed


def as_they_were(folder: Path, typed: Sequence[Override], overrides: Iterable[Override]) -> list[Override]:
    """Which of the typed groups can't be chosen anew, but bring what the run in `folder` has: they are accepted."""
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


def forced(folder: Path, base: dict[str, Any], overrides: Sequence[Override], force: bool) -> list[str]:
    """What differs from the run's and may not change freely, "<key>: <value> then, <value> now" each.

    Args:
        base: the config of the run in `folder`, with the groups that were chosen in the place of its own.
        overrides: all that were typed.

    Raises:
        ValueError: the value of a fixed key was typed; or there is such a difference, and `force` is not set.
    """
    typed = [o.key_or_group for o in overrides]
    then, now = DictConfig(load("", folder, from_its_start=True)), _with_values(base, overrides)
    found = {place: text for place, text in _differences(then, now) if not _is_free(place)}
    for place in (o.key_or_group for o in overrides if _is_no_value(o) and not _is_free(o.key_or_group)):
        found.setdefault(place, f"{place}: {_short(_value(then, place))} then")
    own = {place: text for place, text in found.items() if any(_touch(place, key) for key in typed)}
    anew = f"To begin a new run from its weights: weights={folder}/checkpoints/last.ckpt"
    for place, text in own.items():
        if rule(place, "resume") == FIXED:
            raise ValueError(f"{place} can't be changed by resume=, it is what the run began with ({text})\n{anew}")
    # What follows in a fixed key from another value comes with the checkpoint; `other_schedule` reports the schedule's.
    texts = [text for place, text in (own | found).items() if rule(place, "resume") != FIXED]
    if texts and not force:
        more = [f"and {len(texts) - MOST} more"] if len(texts) > MOST else []
        lines = [
            "resume= would change what the run's weights and figures follow from:",
            *(texts[:MOST] + more),
            "force=true changes it from here on; the run will then not be reproducible from one command",
            anew,
        ]
        raise ValueError("\n".join(lines))
    return texts


def _differences(then: DictConfig, now: DictConfig) -> Iterator[tuple[str, str]]:
    """(dotted path, "<path>: <value> then, <value> now") of every value that differs, secrets masked."""
    before, after = ({key: value for key, value in dotted(plain(cfg)) if value != {}} for cfg in (then, now))
    for key in before | after:
        was, is_now = before.get(key, UNSET), after.get(key, UNSET)
        if was != is_now and not rule(key, "own"):
            yield key, f"{key}: {_short(was)} then, {_short(is_now)} now"


def _touch(key: str, other: str) -> bool:
    return _lies_in(key, [other]) or _lies_in(other, [key])


def _is_free(place: str) -> bool:
    return rule(place, "resume") not in (None, FIXED)


def other_schedule(cfg: DictConfig, folder: Path) -> list[str]:
    """What the schedule has otherwise than when the run in `folder` last started, as it follows from the run's end."""
    then = DictConfig(load("", folder))
    return [text for place, text in _differences(then, cfg) if _lies_in(place, ["scheduler"])]


def _with_values(base: dict[str, Any], overrides: Iterable[Override]) -> DictConfig:
    """The config with the values that were typed; groups are in it already, and Hydra's own are none of it."""
    now = OmegaConf.create(base)
    for o in overrides:
        if not (_is_no_value(o) or o.key_or_group.startswith("hydra") or (CONF / o.key_or_group).is_dir()):
            OmegaConf.update(now, o.key_or_group, o.value(), force_add=True)
    for key in names("starts"):
        if row(key).must_exist and now.get(key):
            now[key] = str(Path(now[key]).expanduser().absolute())
    return now


def _is_no_value(o: Override) -> bool:
    return o.is_sweep_override() or o.is_delete()


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
    for key in {*names("own")} & {*cfg}:  # other values refer to these
        then[key] = cfg[key]
    return [text for _, text in _differences(then, cfg)]


def same_source(cfg: DictConfig, folder: Path) -> bool:
    """Whether the data are read from where the run in `folder` read its own."""
    then, now = _value(DictConfig(load("", folder)), "data"), _value(cfg, "data")
    return all(then.get(key) == now.get(key) for key in then.keys() | now.keys() if not rule(f"data.{key}", "view"))


def divide_as_trained(cfg: DictConfig, folder: Path, words: Sequence[str]) -> None:
    """Set how the data that is evaluated is divided, except for what was typed in `words`.

    The data of the run in `folder` are divided as for its training; other data are not divided.
    """
    typed = {o.key_or_group for o in OverridesParser.create().parse_overrides(list(words))}
    then, own = division_of(folder), same_place(cfg, folder)
    for key in division():
        if key in cfg.data and f"data.{key}" not in typed:
            cfg.data[key] = then.get(key, cfg.data[key]) if own else type(cfg.data[key])(0)


def division() -> list[str]:
    """The keys of `data` that say how splits which a dataset lacks are taken from its training images."""
    return [key.removeprefix("data.") for key in names("division")]


def division_of(folder: Path) -> dict[str, Any]:
    """Those keys as the data of the run in `folder` had them."""
    data = _value(DictConfig(load("", folder)), "data")
    return {key: data[key] for key in division() if key in data}


def same_place(cfg: DictConfig, folder: Path) -> bool:
    """Whether the data are in the place where the run in `folder` had its own, however they are divided and viewed.

    Keys that only one of the configs has are not compared: options come and go between versions.
    """
    then, now = (dict(dotted(_value(c, "data"), "data")) for c in (DictConfig(load("", folder)), cfg))
    keys = [key for key in then.keys() & now.keys() if not (rule(key, "view") or rule(key, "division"))]
    return all(_real(key, then[key]) == _real(key, now[key]) for key in keys if key != "data.read.cache")


def _real(key: str, value: Any) -> Any:
    """A path with its links followed."""
    is_path = key in ("data.root", "data.store") and isinstance(value, str) and "://" not in value
    return os.path.realpath(os.path.expanduser(value)) if is_path else value


def refuse_hidden(cfg: DictConfig) -> None:
    """Raises ValueError where a value was a secret, which no run folder keeps."""
    for key in hidden(OmegaConf.to_container(cfg, resolve=True)):
        raise ValueError(
            f"{key} held a secret, and the run's config.yaml doesn't keep those: type {key}=<value> again,\n"
            "or name a variable of .env in conf/, as in ${oc.env:A_TOKEN}: that stays as it is"
        )


def hidden(content: Any) -> list[str]:
    """The dotted keys whose values were masked."""
    return [key for key, value in dotted(content) if HIDDEN in str(value)]
