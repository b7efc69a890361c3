"""Checks of a run folder's config.yaml: it may be damaged, or come from a stranger.

Three things hold for every config, also for that of a new training: it builds allowed targets only
(allowed_targets.py), calls the resolvers of resolvers.py only, and the folders of this machine are never taken from a
file. This file adds what holds for a saved config: its parts write within the run's folder.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf

from fovea.config.allowed_targets import conf_places
from fovea.config.keys import KEYS, dotted, names, rule
from fovea.config.resolvers import PROJECT

HYDRAS = ("hydra", "defaults")  # keys with which a config would choose Hydra's own launchers, sweepers and log handlers
FOLDER = re.compile(r"(?<!sub_)(cache|folder|root|dir|dirpath|uri)$")  # keys of places, which may be relative ones
ABSOLUTE = re.compile(r"(?:^|[\s,:'\"\[({])[/~]")  # a path, alone or in a list
MADE = "fovea.data.sources.digits."  # readers that write the data where there are none


class Source(NamedTuple):
    """A run folder that a config comes from.

    Attributes:
        folder: as it is called now.
        typed: dotted keys whose values were typed: the user may name any place.
    """

    folder: Path
    typed: frozenset[str]

    @property
    def file(self) -> Path:
        return self.folder / "config.yaml"

    def is_typed(self, place: str) -> bool:
        keys = place.split(".")
        return any(".".join(keys[:n]) in self.typed for n in range(1, len(keys) + 1))


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
    missing = [key for key in names("parts") if KEYS[key].required and not isinstance(content.get(key), dict)]
    if missing:
        raise ValueError(f"{file} is no run's config: it has no section {missing[0]}")
    strange = [key for key in HYDRAS if key in content]
    if strange:
        raise ValueError(f"{file}: {strange[0]} is Hydra's own and can't come from a run folder: take it out")
    return content


def check_places(source: Source, cfg: DictConfig) -> None:
    """Check where the parts of a composed config would write.

    Raises:
        ValueError: it is outside of the run's folder and, for copies of data, of DATA_DIR.
    """
    for place, text in places_outside(source, cfg):
        here = "the run's folder and of DATA_DIR" if place.startswith("data.") else "the run's folder"
        raise ValueError(
            f"{source.file}: {place}={text} is outside of {here}\nIf you trust it, type it: {place}=<place>"
        )


def places_outside(source: Source, cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """(dotted key, place) of what parts would write outside of the run's folder and was not typed."""
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    parts = {key: content[key] for key in names("parts") if key in content}
    for place, text in dotted(parts, into_lists=True):
        written = isinstance(text, str) and _is_written(place, content["data"]) and not source.is_typed(place)
        if written and _leads_out(place, text, source):
            yield place, text


def reaches_out(key: str, value: str) -> bool:
    """Whether an override, `key=value`, may read the environment, or name a host or a place to write to."""
    if "${" in value or "://" in value:
        return True
    return not rule(key, "reads") and bool(FOLDER.search(key) or ABSOLUTE.search(value))


def _is_written(place: str, data: dict[str, Any]) -> bool:
    read = data.get("read")
    if place == "data.root" and isinstance(read, dict) and str(read.get("_target_")).startswith(MADE):
        root = Path(data["root"]).expanduser()
        return not (root.is_dir() and any(root.iterdir()))
    return not rule(place, "reads")


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
    return not any(Path(there).is_relative_to(os.path.realpath(home)) for home in _homes(place, scheme, source))


def _homes(place: str, scheme: str, source: Source) -> list[Path]:
    """The folders, and the data base, that a part may write to."""
    homes = [source.folder, *(Path(named).expanduser() for named in conf_places())]
    if place.startswith("data."):
        homes.append(Path(os.environ.get("DATA_DIR") or PROJECT / "data"))
    if place.startswith("logger.") and scheme == "sqlite":  # as in conf/logger/mlflow.yaml
        homes.append(Path(os.environ.get("RUNS_DIR") or PROJECT / "runs") / "mlflow.db")
    return homes
