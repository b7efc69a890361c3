"""A run folder's config.yaml, looked at before anything is made of it: it may be damaged, or a stranger's."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar_parser import OmegaConfGrammarParser, parse

from fovea.config.allowed_targets import conf_places, conf_texts
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
BUILT = (*SECTIONS, "mixing")  # sections of which parts are made: those may write files, or send what they log
READ = re.compile(  # what is read, wherever it is
    r"data\.(root|store|sampler\.file|read\.(?!cache$|root$)\w+)|model\.(weights|ckpt_path|checkpoint_path)"
)
FOLDER = re.compile(r"(?<!sub_)(cache|folder|root|dir|dirpath|uri)$")  # keys of places, which may be relative ones
ABSOLUTE = re.compile(r"(?:^|[\s,:'\"\[({])[/~]")  # a path, alone or in a list
MADE = "fovea.data.sources.digits."  # readers that write the data where there are none
LOOKS_UP = ("oc.select", "oc.dict.keys", "oc.dict.values")  # OmegaConf's own resolvers that stay within the config
KEYS_ONLY = re.compile(r"(?:[^$]|\$\{\.*\w[\w.]*\})*")  # references to other keys and no resolver


class Source(NamedTuple):
    """A run folder that a config comes from.

    Attributes:
        folder: as it is called now.
        trusted: dotted keys of the user's word: the values that were typed, and those of groups that were.
    """

    folder: Path
    trusted: frozenset[str]

    @property
    def file(self) -> Path:
        return self.folder / "config.yaml"

    def is_trusted(self, place: str) -> bool:
        keys = place.split(".")
        return any(".".join(keys[:n]) in self.trusted for n in range(1, len(keys) + 1))


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


def check(source: Source, content: dict[str, Any]) -> None:
    """Look at a saved config, with its references and the chosen groups put in, before anything of it is resolved.

    Raises:
        ValueError: a section is missing; or the config reaches for Hydra's own settings, or what is outside of itself.
    """
    _check_sections(source.file, content, SECTIONS)
    strange = [key for key in HYDRAS if key in content]
    if strange:
        raise ValueError(f"{source.file}: {strange[0]} is Hydra's own and can't come from a run folder: take it out")
    for place, text in texts(content):
        if not source.is_trusted(place):
            _check_expression(source.file, place, text)


def check_own(content: dict[str, Any], references: dict[str, str]) -> None:
    """Look at what a new run's config.yaml would hold as if it were a stranger's: resuming the run will do so.

    Raises:
        ValueError: it would be refused.
    """
    file = Path("config.yaml")
    base = OmegaConf.to_container(put_back(file, content, references))
    assert isinstance(base, dict)
    check(Source(Path(), frozenset()), {str(key): value for key, value in base.items()})


def check_places(source: Source, cfg: DictConfig) -> None:
    """Look at where the parts of a composed config would write, as it resolves.

    Raises:
        ValueError: it is outside of the run's folder and, for what is kept of data, of DATA_DIR.
    """
    for place, text in places_outside(source, cfg):
        here = "the run's folder and of DATA_DIR" if place.startswith("data.") else "the run's folder"
        raise ValueError(
            f"{source.file}: {place}={text} is outside of {here}\nIf you trust it, type it: {place}=<place>"
        )


def places_outside(source: Source, cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """(dotted path, place) of what parts would write outside of the run's folder and was not typed."""
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    for place, text in texts({key: content[key] for key in BUILT if key in content}):
        if _is_written(place, content["data"]) and not source.is_trusted(place) and _leads_out(place, text, source):
            yield place, text


def is_built(key: str) -> bool:
    """Whether a dotted key is one within BUILT that doesn't just say what is read."""
    section, _, rest = key.partition(".")
    return section in BUILT and bool(rest) and not READ.fullmatch(key)


def reaches_out(key: str, value: str) -> bool:
    """Whether an override, `key=value`, may read the environment, or name a host or a place to write to."""
    if "${" in value or "://" in value:
        return True
    read = READ.fullmatch(key) or key in ("weights", "ckpt_path")
    return not read and bool(FOLDER.search(key) or ABSOLUTE.search(value))


def _is_written(place: str, data: dict[str, Any]) -> bool:
    read = data.get("read")
    if place == "data.root" and isinstance(read, dict) and str(read.get("_target_")).startswith(MADE):
        root = Path(data["root"]).expanduser()
        return not (root.is_dir() and any(root.iterdir()))
    return not READ.fullmatch(place)


def _check_sections(file: Path, content: dict[str, Any], sections: Collection[str]) -> None:
    missing = [key for key in sections if not isinstance(content.get(key), dict)]
    if missing:
        raise ValueError(f"{file} is no run's config: it has no section {missing[0]}")


def texts(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, text) of every text."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from texts(value, f"{place}.{key}" if place else str(key))
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
        raise ValueError(
            f"{file}: {place}={text} reads what no yaml of conf/ reads, and may come from a stranger\n"
            "Name the variable in a yaml of conf/, or type the value itself"
        )


def _resolvers(node: Any) -> Iterator[str]:
    """The resolvers that an expression calls, also within another's arguments."""
    if isinstance(node, OmegaConfGrammarParser.InterpolationResolverContext):
        yield node.resolverName().getText()
    if isinstance(node, OmegaConfGrammarParser.DictContainerContext):
        yield "{}"  # it would make nodes, and none of those that were looked at
    for child in getattr(node, "children", None) or ():
        yield from _resolvers(child)


def _leads_out(place: str, text: str, source: Source) -> bool:
    """Whether it is somewhere, in the file system or the network, that neither the run nor the environment knows."""
    scheme, _, rest = text.partition(":")
    local = scheme in ("file", "sqlite")
    if "://" in text and not local:
        return text not in os.environ.values()
    if local:
        text = re.sub("^//(?=/)" if scheme == "file" else "^///", "", rest)
    expanded = os.path.expanduser(text)
    if os.path.isabs(expanded) or local or (text and FOLDER.search(place)):
        there = os.path.realpath(expanded)  # seen from the folder that the program was started in
    elif ".." in re.split(r"[/\\]", text):
        there = os.path.realpath(source.folder / text)
    else:
        return False
    homes = [source.folder, *(Path(named).expanduser() for named in conf_places())]
    if place.startswith("data."):
        homes.append(Path(os.environ.get("DATA_DIR") or PROJECT / "data"))
    if place.startswith("logger.") and local:  # as in conf/logger/mlflow.yaml, and as it once was
        runs = Path(os.environ.get("RUNS_DIR") or PROJECT / "runs")
        homes += [runs / "mlflow.db"] if scheme == "sqlite" else [runs / "mlruns"]
    return not any(Path(there).is_relative_to(os.path.realpath(home)) for home in homes)
