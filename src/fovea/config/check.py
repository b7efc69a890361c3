"""Is a composed config good? Asked before torch is imported and before anything is written."""

import re
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovea.config import untrusted
from fovea.config.allowed import check_strategy, check_targets
from fovea.config.past import refuse_hidden
from fovea.config.resolvers import CONF
from fovea.config.saved import plain
from fovea.config.schema import check_monitor, check_types


def check_plain_run(config_name: str, arguments: list[str], source: untrusted.Source | None = None) -> None:
    """Refuse a wrong config before Hydra makes a folder for it (and before it composes it twice)."""
    if any(word.startswith("-") for word in arguments):
        return  # --help, --cfg job, -m: its jobs are checked one by one
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose(config_name, arguments)
        check(cfg, source)
        _check_kinds(cfg, config_name, arguments)
        _check_one_source(cfg, arguments)


def check(cfg: DictConfig, source: untrusted.Source | None = None) -> None:
    """Raises ValueError where a key is missing or of a wrong type, or names a file or a metric that is not there.

    Or where the config comes from a run folder, `source`, and would build or write what that may not.
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
    if source:
        check_targets(cfg)
        untrusted.check_places(source, cfg)
        if "run" not in cfg:  # evaluating asks no logger
            refuse_hidden(cfg)
    elif cfg.ckpt_path:
        check_strategy(cfg)
    _check_data_root(cfg)
    check_types(config)
    if "usual" in cfg:  # conf/pack.yaml
        _check_packing(cfg)
    for key in ("weights", "ckpt_path", "data.sampler.file"):
        file = OmegaConf.select(cfg, key)
        if file and not Path(file).expanduser().is_file():
            raise ValueError(f"{key}={file}: there is no such file")
    if OmegaConf.select(cfg, "data.resident") and cfg.data.decode != "cpu":
        raise ValueError(f"data.resident=true keeps decoded images: there is nothing for data.decode={cfg.data.decode}")
    if cfg.weights and cfg.ckpt_path:
        raise ValueError("weights= and ckpt_path= both say what to start from: keep one of them")
    check_monitor(cfg.monitor, [*cfg.metrics, "loss"], averaged="ema" in cfg.callbacks)
    if cfg.monitor.startswith("train/") and cfg.trainer.val_check_interval is not None:
        raise ValueError(f"monitor={cfg.monitor} is known at an epoch's end, not every trainer.val_check_interval")


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


def _check_one_source(cfg: DictConfig, arguments: list[str]) -> None:
    """Refuse a folder that would not be read."""
    typed = {o.key_or_group: o.input_line for o in OverridesParser.create().parse_overrides(arguments)}
    store = OmegaConf.select(cfg, "data.store")
    if store and "data.root" in typed:
        raise ValueError(f"{typed['data.root']} would not be read, as data.store={store} is: add data.store=null")


def _check_kinds(cfg: DictConfig, config_name: str, arguments: list[str]) -> None:
    """Refuse text where the yaml has a number, or true or false."""
    overrides = OverridesParser.create().parse_overrides(arguments)
    groups = [o.input_line or "" for o in overrides if (CONF / o.key_or_group).is_dir()]
    changed = [o.key_or_group for o in overrides if o.type == OverrideType.CHANGE and o.input_line not in groups]
    texts = {key: OmegaConf.select(cfg, key) for key in changed if not key.startswith("hydra")}
    texts = {key: text for key, text in texts.items() if isinstance(text, str)}
    if not texts:
        return
    before = hydra.compose(config_name, groups)
    for key, text in texts.items():
        old = OmegaConf.select(before, key)
        if isinstance(old, int | float) and key != "trainer.devices":  # "auto" and "0,1" are devices too
            expected = "true or false" if isinstance(old, bool) else "a number"
            raise ValueError(f"{key}={text}: {expected} is expected (conf/ has {str(old).lower()})")
