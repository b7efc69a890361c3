"""A run folder's config.yaml, looked at before anything is made of it: it may be damaged, or a stranger's."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar_parser import OmegaConfGrammarParser, parse

from fovea.config.allowed import conf_texts
from fovea.config.resolvers import PROJECT, RESOLVERS

SECTIONS = (
    "augment",
    "callbacks",
    "checkpoint",
    "data",
    "logger",
    "loss",
    "metrics",
    "model",
    "optimizer",
    "parameter_groups",
    "per_class_metrics",
    "preprocess",
    "scheduler",
    "trainer",
)
HYDRAS = ("hydra", "defaults")  # keys with which a config would choose Hydra's own launchers, sweepers and log handlers
WRITING = ("callbacks", "logger", "trainer")  # sections whose parts write files or send what they log
LOOKS_UP = ("oc.select", "oc.dict.keys", "oc.dict.values")  # OmegaConf's own resolvers that stay within the config
KEYS_ONLY = re.compile(r"(?:[^$]|\$\{\.*\w[\w.]*\})*")  # references to other keys and no resolver


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them stand for a billion nodes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name), and what a run writes has none")
        return super().compose_node(parent, index)


def read(file: Path) -> dict[str, Any]:
    """Plain containers; no tag makes an object.

    Raises:
        ValueError: the file is not what a run writes.
    """
    try:
        content = yaml.load(file.read_text("utf-8"), _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} can't be read as a run's config: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is no run's config: it holds {type(content).__name__}, not keys and values")
    _check_sections(file, content, ("model",))
    return content


def put_back(file: Path, content: dict[str, Any], references: Any) -> DictConfig:
    """The config with `references`, path -> expression, in the places of what they resolved to.

    Raises:
        ValueError: they are none, or one is of a key that is not there.
    """
    if not isinstance(references, dict):
        raise ValueError(f"{file}: references must hold paths and expressions")
    place = "its values"
    try:
        config = DictConfig(content)
        for place, expression in references.items():
            if not isinstance(expression, str) or OmegaConf.select(config, place, default=config) is config:
                raise ValueError("there is no such key, or no text")
            OmegaConf.update(config, place, expression)
    except (OmegaConfBaseException, ValueError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"{file}: {place}: {str(error).splitlines()[0]}") from error
    return config


def check(file: Path, content: dict[str, Any], run_dir: Path, typed: Collection[str]) -> None:
    """Look at a saved config with its references put back.

    Args:
        file: for messages.
        content: the config.
        run_dir: the run's folder, as it is called now.
        typed: keys and groups that the command line sets: what it says is the user's word.

    Raises:
        ValueError: a section is missing; or the config reaches for Hydra's own settings, for what is outside of
            itself, or for a place outside of the run's folder and RUNS_DIR.
    """
    _check_sections(file, content, SECTIONS)
    strange = [key for key in HYDRAS if key in content]
    if strange:
        raise ValueError(f"{file}: {strange[0]} is Hydra's own and can't come from a run folder: take it out")
    for place, text in _texts(content):
        if not any(f"{place}.".startswith(f"{key}.") for key in typed):
            _check_expression(file, place, text)
            if place.partition(".")[0] in WRITING and _leads_out(text, run_dir):
                raise ValueError(
                    f"{file}: {place}={text} is outside of the run's folder and of RUNS_DIR\n"
                    f"If you trust it, type it: {place}=<place>"
                )


def _check_sections(file: Path, content: dict[str, Any], sections: Collection[str]) -> None:
    missing = [key for key in sections if not isinstance(content.get(key), dict)]
    if missing:
        raise ValueError(f"{file} is no run's config: it has no section {missing[0]}")


def _texts(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, text) of every text."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _texts(value, f"{place}.{key}" if place else str(key))
    if isinstance(node, str):
        yield place, node


def _check_expression(file: Path, place: str, text: str) -> None:
    """Of resolvers, those that depend on the config alone; of variables, those that conf/ reads too."""
    if "${" not in text or KEYS_ONLY.fullmatch(text):
        return
    try:
        names = list(_resolvers(parse(text)))
    except (OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"{file}: {place}={text} is no expression: {str(error).splitlines()[0]}") from error
    own = {*RESOLVERS, *LOOKS_UP, "oc.env"}
    variables = re.findall(r"oc\.env\s*:\s*(\w+)", text)
    known = re.findall(r"oc\.env\s*:\s*(\w+)", conf_texts())
    if not own.issuperset(names) or len(variables) != names.count("oc.env") or not set(known).issuperset(variables):
        raise ValueError(f"{file}: {place}={text} reads what no yaml of conf/ reads, and may come from a stranger")


def _resolvers(node: Any) -> Iterator[str]:
    """The resolvers that an expression calls, also within another's arguments."""
    if isinstance(node, OmegaConfGrammarParser.InterpolationResolverContext):
        yield node.resolverName().getText()
    if isinstance(node, OmegaConfGrammarParser.DictContainerContext):
        yield "{}"  # it would make nodes, and none of those that were looked at
    for child in getattr(node, "children", None) or ():
        yield from _resolvers(child)


def _leads_out(text: str, run_dir: Path) -> bool:
    """Whether it is a place, in the file system or the network, that neither the run nor the environment knows."""
    scheme, _, rest = text.partition(":")
    if scheme == "file":
        text = re.sub("^//(?=/)", "", rest)
    elif "://" in text:
        return text not in os.environ.values()
    expanded = os.path.expanduser(text)
    if not os.path.isabs(expanded) and ".." not in re.split(r"[/\\]", text):
        return False
    runs = Path(os.environ.get("RUNS_DIR") or PROJECT / "runs")
    place = os.path.realpath(os.path.join(run_dir, expanded))
    return not any(Path(place).is_relative_to(os.path.realpath(home)) for home in (run_dir, runs))
