"""Explains the errors with which Hydra refuses to compose a config from the command line."""

import difflib
import re
import sys
from collections.abc import Iterator
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf

from fovea.cli.errors.suggest import PLUGINS, aliased, missing_plugin, near_options, replacements
from fovea.config.resolvers import CONF

REASONS = {  # messages for options that people expect and that don't exist
    "hydra/sweeper/optuna": 'hydra/sweeper=optimize needs a plugin: pip install -e ".[optuna]"',
    "optimizer/sparse_adam": "SparseAdam needs sparse gradients, but an image network's are dense: use optimizer=adam",
    **{
        f"optimizer/{name.lower()}": f"{name} shares Adam's yaml: optimizer=adam optimizer._target_=torch.optim.{name}"
        for name in ("Adamax", "NAdam", "RAdam")
    },
    "scheduler/multiplicative": "use scheduler=exponential for a constant factor; for your own: docs/optimization.md",
}
QUESTIONS = {"model": "A network of torchvision or timm? ", "data": "A folder of images? "}
OWN_IMAGES = "Your own images, in a folder for each class: data=folder data.root=<folder>"


def explain(error: Exception) -> str | None:
    """Return the message for an error in the command line; None for any other error."""
    text = str(error)
    if "Config group override must be a string or a list" in text:
        return _null_for_a_group() if "Got NoneType" in text else _no_name_for_a_group()
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, ConfigCompositionException):
        return _unknown_key(error)
    if "missing EQUAL" in text:
        word = text.splitlines()[0].partition("'")[2].rstrip("'")
        return f"{word}: type key=value, or group=option"
    return None


def _unknown_option(error: MissingConfigException) -> str:
    asked = error.missing_cfg_file or ""
    return REASONS.get(asked) or missing_plugin(asked) or _no_such_option(*_group_and_option(asked))


def _group_and_option(asked: str) -> tuple[str, str]:
    """Split the path of a missing yaml into group and option. A typed option may have a slash too: data=some/folder."""
    typed = (word.partition("=")[0] for word in sys.argv[1:])
    group = next((key for key in typed if key and asked.startswith(f"{key}/")), asked.rpartition("/")[0])
    return group, asked.removeprefix(f"{group}/")


def _no_such_option(group: str, option: str) -> str:
    missing = f"{group}={option}: there is no conf/{group}/{option}.yaml."
    suggested = replacements(group, option)
    if suggested:
        lines = [missing, f"{QUESTIONS.get(group, '')}Type {' or '.join(suggested)}", _options(group), _plugins(group)]
    else:
        hint = OWN_IMAGES if group == "data" else _plugins(group)
        lines = [missing + _did_you_mean(near_options(group, option)), _options(group), hint]
    return "\n".join(filter(None, lines))


def _options(group: str) -> str:
    options = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    return f"There are {', '.join(options)}" if options else ""


def _plugins(group: str) -> str:
    plugins = [name.rpartition("/")[2] for name in PLUGINS if name.startswith(f"{group}/")]
    return f"Plugins to install: {', '.join(plugins)}" if plugins else ""


def _null_for_a_group() -> str:
    word = next((word for word in sys.argv[1:] if word.endswith("=null")), "group=null")
    return f"{word}: a group takes a name or a list of names; to choose none: {word.removesuffix('null')}[]"


def _no_name_for_a_group() -> str:
    words = _typed_groups()
    for group, _, option in (word.partition("=") for word in words):
        if replacements(group, option):
            return _no_such_option(group, option)
    return f"{' '.join(words)}: a group takes the name of one of its yamls, or a list of names"


def _typed_groups() -> list[str]:
    """The typed words that choose a yaml of a group."""
    return [word for word in sys.argv[1:] if (CONF / word.partition("=")[0]).is_dir() and "=" in word]


def _unknown_key(error: ConfigCompositionException) -> str:
    found = re.search(r"Could not (?:override|delete from config\.) '?([\w./@-]+)", str(error))
    if not found:
        return _of_cause(error)
    key = found[1]
    aliases = aliased(sys.argv[1:]) if aliased([f"{key}=x"]) else []
    if aliases:
        return f"{key}: there is no such key. Type {' '.join(aliases)}"
    options = _options_with(key)
    if options:
        group = f"conf/{key.partition('.')[0]}/"
        return f"{key}: what was chosen of {group} has no such key. These have it: {', '.join(options)}"
    keys = _keys(error)
    if "/" in key:  # one of Hydra's groups
        near = difflib.get_close_matches(key, [name.replace(".", "/") for name in keys], n=1)
        return f"{key}: there is no such group.{_did_you_mean(near)}"
    same_end = [other for other in keys if other.rpartition(".")[2] == key.rpartition(".")[2]]
    near = difflib.get_close_matches(key, keys, n=2, cutoff=0.7) or same_end
    return f"{key}: there is no such key.{_did_you_mean(near)}\nTo add a new key: +{key}=<value>"


def _options_with(key: str) -> list[str]:
    """Return the overrides that choose a yaml of the key's group which has the key: ["optimizer=sgd"]."""
    group, _, rest = key.partition(".")
    files = sorted((CONF / group).glob("*.yaml"))
    return [f"{group}={file.stem}" for file in files if rest in _dotted(OmegaConf.to_container(OmegaConf.load(file)))]


def _of_cause(error: ConfigCompositionException) -> str:
    """Return the text of OmegaConf's error, the cause of Hydra's; and Hydra's own if it names the override."""
    if "Error merging override" in str(error):
        return "\n".join([str(error), str(error.__cause__ or "").partition("\n")[0]])
    return str(error.__cause__ or error)


def _keys(error: ConfigCompositionException) -> list[str]:
    """Return all dotted keys of the config that the override was to change; those of train.yaml if it is not known."""
    node = getattr(error.__cause__, "parent_node", None)
    if node is not None:
        return list(_dotted(OmegaConf.to_container(node._get_root())))
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return list(_dotted(OmegaConf.to_container(hydra.compose("train", _typed_groups()))))


def _dotted(node: Any, path: str = "") -> Iterator[str]:
    if path:
        yield path
    for key, value in node.items() if isinstance(node, dict) else ():
        yield from _dotted(value, f"{path}.{key}" if path else str(key))


def _did_you_mean(near: list[str]) -> str:
    return f" Did you mean {' or '.join(near[:2])}?" if near else ""
