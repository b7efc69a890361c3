"""Composes the config of `python src/train.py` without overrides, and lists what differs from it in another config."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from fovea.config.keys import dotted, rule
from fovea.config.pretrained import SECTION
from fovea.config.resolvers import CONF


@contextmanager
def own_hydra() -> Iterator[None]:
    """Initialize Hydra for conf/, and afterwards restore its state: a job or a notebook may use Hydra itself."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), job_name="fovea", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def changed_keys(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (key, value, default) of the keys that differ from the defaults, in the order of the config.

    Keys that are specific to a run or a machine, or that follow from the data, are left out, and so are references,
    except that keys which follow published weights have their values.

    Args:
        config: the content of a run's config.yaml, with its references.
    """
    with own_hydra():
        defaults = _values(OmegaConf.to_container(hydra.compose("train")))
    values = _values(dict(config))
    return [
        (key, _text(values, key), _text(defaults, key))
        for key in dict.fromkeys([*values, *defaults])
        if values.get(key) != defaults.get(key) and not _follows(key, defaults.get(key))
    ]


def _values(config: Any) -> dict[str, Any]:
    """Return {dotted key: value}, with references except those of keys that follow published weights."""
    resolved = DictConfig(config)
    return {
        key: _plain(OmegaConf.select(resolved, key)) if str(value).startswith(f"${{{SECTION}:") else value
        for key, value in dotted(config)
    }


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _follows(key: str, default: Any) -> bool:
    """Return True if the value is not chosen by a person; a mode of null stands for the direction of the metric."""
    return key == "mode" or any(rule(key, column) for column in ("own", "here", "from_data")) or "${" in str(default)


def _text(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return ""
    value = values[key]
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
