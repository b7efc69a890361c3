"""Is a composed config good? Asked before torch is imported and before anything is written."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovea.config import untrusted
from fovea.config.allowed_targets import check_targets, targets
from fovea.config.resolvers import CONF
from fovea.config.resume_rules import LENGTHS, hidden, refuse_hidden
from fovea.config.run_length import check_schedule
from fovea.config.saved import composed, plain, references_of
from fovea.config.schema import check_monitor, check_types


def check(cfg: DictConfig, source: untrusted.Source | None = None) -> None:
    """Raises ValueError where a key is missing or of a wrong type, or names a file or a metric that is not there.

    Or names a target that no config may build; or comes from a run folder, `source`, and would write elsewhere; or is
    a new run's and could not be read again from that run's folder.
    """
    cfg = cfg.copy()
    for key in {"run_dir", "output_dir"} & set(cfg):
        cfg[key] = str(source.folder.resolve()) if source else key  # not known before the run
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        config = {} if missing else plain(cfg)
    except OmegaConfBaseException:  # a resolver's word is "'>' not supported": first ask for what was typed wrong
        check_types(_typed(cfg), complete=False)
        raise
    if missing:
        raise ValueError(f"{missing[0]} is missing: type {missing[0]}=<value>")
    check_targets(cfg)
    if source:
        untrusted.check_places(source, cfg)
        if "run" not in cfg:  # evaluating asks no logger
            refuse_hidden(cfg)
    _check_data_root(cfg)
    check_types(config)
    if not source and "usual" not in cfg:  # packing makes no run
        untrusted.check_own(config, references_of(cfg))
    if "usual" in cfg:  # conf/pack.yaml
        _check_packing(cfg)
    if not {"run", "usual"} & set(cfg) and "schedule_length" in cfg:  # it trains, and began with this version
        check_schedule(cfg)
    for key in ("weights", "ckpt_path", "data.sampler.file"):
        file = OmegaConf.select(cfg, key)
        if file and not Path(file).expanduser().is_file():
            raise ValueError(f"{key}={file}: there is no such file")
    if OmegaConf.select(cfg, "data.resident") and cfg.data.decode != "cpu":
        raise ValueError(f"data.resident=true keeps decoded images: there is nothing for data.decode={cfg.data.decode}")
    if cfg.weights and cfg.ckpt_path:
        raise ValueError("weights= and ckpt_path= both say what to start from: keep one of them")
    check_monitor(cfg.monitor, [*cfg.metrics, "loss"], _may_average(cfg))
    by_step = cfg.scheduler.interval == "step" and str(cfg.scheduler._target_).endswith("ReduceLROnPlateau")
    if cfg.monitor.startswith("train/") and by_step:
        raise ValueError(
            f"monitor={cfg.monitor} is known at an epoch's end: a plateau schedule needs scheduler.interval=epoch"
        )
    if cfg.monitor.startswith("train/") and cfg.trainer.val_check_interval is not None:
        raise ValueError(f"monitor={cfg.monitor} is known at an epoch's end, not every trainer.val_check_interval")


def _may_average(cfg: DictConfig) -> bool:
    """Whether a callback may average the weights: any but Lightning's and the usual ones. build.py knows for sure."""
    if "/ema_" not in cfg.monitor:
        return False
    usual = {target for _, target in targets(composed()["callbacks"])}
    named = {str(target) for _, target in targets(OmegaConf.to_container(cfg.callbacks, resolve=True))}
    return any(not target.startswith("lightning.") for target in named - usual)


def to_type_again(cfg: DictConfig) -> list[str]:
    """Which values of a training its run folder can't vouch for or doesn't keep, a sentence each."""
    places = untrusted.places_outside(untrusted.Source(Path(cfg.run_dir), frozenset()), cfg)
    lines = [
        f"{place}={text} is outside of the run's folder, so every later command on this run has to type it again; "
        "a place that a yaml of conf/ names has not to be typed"
        for place, text in places
        if place != "data.root"  # of made data: they are there by then, and only read
    ]
    return lines + [
        f"{key} is a secret, which config.yaml doesn't keep: resume= and rerun= have to type it again; "
        "a variable of .env that a yaml of conf/ names has not to be typed"
        for key in hidden(plain(cfg))
    ]


def _check_packing(cfg: DictConfig) -> None:
    """Refuse what the format would not heed."""
    if cfg.format == "files" and (cfg.short_side or cfg.long_side):
        raise ValueError("format=files keeps images as they are: short_side= and long_side= are for jpeg and raw")
    if (cfg.quality is None) == (cfg.format == "jpeg"):
        raise ValueError(f"format={cfg.format} quality={cfg.quality}: jpeg takes a quality, 1 to 100, and it alone")


def _typed(cfg: DictConfig) -> dict[str, Any]:
    """The config without what is computed."""

    def kept(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: kept(value) for key, value in node.items() if not (isinstance(value, str) and "${" in value)}
        return node

    typed = kept(OmegaConf.to_container(cfg))
    assert isinstance(typed, dict)
    return typed


def _check_data_root(cfg: DictConfig) -> None:
    if "root" in cfg.data and not cfg.data.root and not OmegaConf.select(cfg, "data.store"):
        said = OmegaConf.to_container(cfg.data)
        assert isinstance(said, dict)
        variable = re.search(r"oc\.env:(\w+)", str(said["root"]))
        first = f"{variable[1]} is not set: put it into .env or the environment, or type" if variable else "type"
        raise ValueError(f"data.root is not set. {first[0].upper()}{first[1:]} data.root=<folder>")


def check_typed(cfg: DictConfig, config_name: str, words: Sequence[str]) -> None:
    """Raises ValueError where an override would not be heeded, or is text where the yaml has a number, true or false.

    Args:
        cfg: what was composed with the overrides.
        config_name: the yaml in conf/.
        words: the overrides.
    """
    overrides = OverridesParser.create().parse_overrides([word for word in words if not word.startswith("-")])
    store = OmegaConf.select(cfg, "data.store")
    root = next((o.input_line for o in overrides if o.key_or_group == "data.root"), None)
    if store and root:
        raise ValueError(f"{root} would not be read, as data.store={store} is: add data.store=null")
    groups = [o.input_line or "" for o in overrides if (CONF / o.key_or_group).is_dir()]
    changed = [o.key_or_group for o in overrides if o.type == OverrideType.CHANGE and o.input_line not in groups]
    texts = {key: OmegaConf.select(cfg, key) for key in changed if not key.startswith("hydra")}
    texts = {key: text for key, text in texts.items() if isinstance(text, str) and not Path(text).is_absolute()}
    if not texts:
        return
    before = hydra.compose(config_name, groups)
    before.update({key: 1 for key in LENGTHS if key in before})
    for key, text in texts.items():
        old = OmegaConf.select(before, key)
        if isinstance(old, int | float) and key != "trainer.devices":  # "auto" and "0,1" are devices too
            expected = "true or false" if isinstance(old, bool) else "a number"
            raise ValueError(f"{key}={text}: {expected} is expected (conf/ has {str(old).lower()})")
