"""Makes composing fast in the tests: Hydra reads conf/ and composes each choice of its yamls once in a process.

Composing takes 0.3 seconds, and most tests of programs compose. Overrides of values are not cached: Hydra
applies them to a copy. Other folders of yamls are not cached either, because tests change them. Programs that a test
starts as processes do not use this module.
"""

import copy
import dataclasses
import functools
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf, _utils, base, grammar_parser

from fovea.config.resolvers import CONF

SOURCES = {"pkg://hydra.conf", f"file://{CONF}", "structured://"}
_lists: dict[str, DefaultsList] = {}
_configs: dict[str, bytes] = {}
_files: dict[str, bytes] = {}
_compose, _load = ConfigLoaderImpl._compose_config_from_defaults_list, ConfigRepository.load_config


def use_cache() -> None:
    """Cache defaults lists, composed configs, yamls and parsed interpolations from now on."""
    _set(functools.cache(grammar_parser.parse), _cached_list, _cached_config, _cached_file)


@contextmanager
def without_cache() -> Iterator[None]:
    """Compose as Hydra does."""
    _set(grammar_parser.parse, create_defaults_list, _compose, _load)
    try:
        yield
    finally:
        use_cache()


def _set(parse: Any, make_list: Any, compose: Any, load: Any) -> None:
    base.parse = _utils.parse = parse
    config_loader_impl.create_defaults_list = make_list
    ConfigLoaderImpl._compose_config_from_defaults_list = compose  # type: ignore[method-assign]
    ConfigRepository.load_config = load  # type: ignore[method-assign]
    # Hydra makes a deep copy of a repository, only to replace the copy's list of sources.
    ConfigRepository.__deepcopy__ = lambda self, memo: copy.copy(self)  # type: ignore[attr-defined]


def _cached_list(
    repo: IConfigRepository, config_name: str | None, overrides_list: list[Override], **options: bool
) -> DefaultsList:
    if not _is_constant(repo):
        return create_defaults_list(repo, config_name, overrides_list, **options)
    values = Overrides(repo, overrides_list).config_overrides
    groups = [o.input_line for o in overrides_list if o not in values]
    key = repr((config_name, groups, options, "defaults" in _saved_run()))
    if key not in _lists:
        _lists[key] = create_defaults_list(repo, config_name, overrides_list, **options)
    return dataclasses.replace(_lists[key], config_overrides=values)


def _cached_config(loader: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
    if not _is_constant(repo):
        return _compose(loader, defaults, repo)
    key = repr((defaults, _saved_run()))
    if key not in _configs:
        _configs[key] = pickle.dumps(_compose(loader, defaults, repo))
    config: DictConfig = pickle.loads(_configs[key])  # ten times as fast as a deepcopy
    OmegaConf.clear_cache(config)  # of values such as a run's time, which each config must compute
    return config


def _cached_file(repo: ConfigRepository, config_path: str) -> ConfigResult | None:
    if not _is_constant(repo) or config_path.startswith("run_config"):
        return _load(repo, config_path)
    if config_path not in _files:
        _files[config_path] = pickle.dumps(_load(repo, config_path))
    result: ConfigResult | None = pickle.loads(_files[config_path])
    if result is not None:
        assert isinstance(result.config, DictConfig)
        OmegaConf.clear_cache(result.config)
    return result


def _is_constant(repo: IConfigRepository) -> bool:
    """Return True if no source is a folder that a test made."""
    return {source.full_path() for source in repo.get_sources()} <= SOURCES


def _saved_run() -> Any:
    """Return the config of a saved run, which evaluate.yaml and others include as `run_config`; {} if there is none."""
    stored = ConfigStore.instance().repo.get("run_config.yaml")
    return stored.node if stored else {}
