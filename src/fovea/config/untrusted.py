"""Checks a run folder's config.yaml, which may be damaged or come from a stranger.

Every config, also that of a new training, may build allowed targets only (allowed_targets.py) and call the resolvers of
resolvers.py only; this machine's folders are never read from a config. This file adds the rules for a saved config: it
is plain YAML, and its parts write only inside the run's folder.
"""

import copy
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf

from fovea.config.allowed_targets import conf_folders
from fovea.config.keys import KEYS, dotted, names, rule
from fovea.config.resolvers import PROJECT

HYDRAS = ("hydra", "defaults")  # keys that could choose Hydra's launchers, sweepers and log handlers
FOLDER = re.compile(r"(?<!sub_)(cache|folder|root|dir|dirpath|uri)$")  # keys of places, which may be relative paths
ABSOLUTE = re.compile(r"(?:^|[\s,:'\"\[({])[/~]")  # a path, alone or in a list
SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MADE = "fovea.data.sources.digits."  # readers that generate the data if they don't exist


class Source(NamedTuple):
    """The run folder that a config comes from.

    Attributes:
        folder: the run's.
        typed: dotted keys whose values the user typed; these may be any place.
    """

    folder: Path
    typed: frozenset[str]

    @property
    def file(self) -> Path:
        return self.folder / "config.yaml"

    def is_typed(self, place: str) -> bool:
        keys = place.split(".")
        return any(".".join(keys[:n]) in self.typed for n in range(1, len(keys) + 1))


def read(file: Path) -> dict[str, Any]:
    """Read plain containers; a YAML tag that would build an object is an error.

    Raises:
        ValueError: the file is not a config that a run wrote.
    """
    try:
        content = copy.deepcopy(_parsed(file.read_text("utf-8")))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} can't be read as a run's config: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a run's config: it holds {type(content).__name__}, not keys and values")
    missing = [key for key in names("parts") if KEYS[key].required and not isinstance(content.get(key), dict)]
    if missing:
        raise ValueError(f"{file} is not a run's config: it has no section {missing[0]}")
    forbidden = [key for key in HYDRAS if key in content]
    if forbidden:
        raise ValueError(f"{file}: {forbidden[0]} is Hydra's own key and not allowed in a run folder: remove it")
    return content


@functools.lru_cache(maxsize=2)  # a resume reads one file several times
def _parsed(text: str) -> Any:
    """Parse a config.yaml without aliases, as a few lines of aliases can stand for a billion nodes."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=SafeLoader)):
        raise yaml.YAMLError("it has an alias (*name), which no run writes")
    return yaml.load(text, SafeLoader)


def check_places(source: Source, cfg: DictConfig) -> None:
    """Check the places that the parts of a composed config would write to.

    Raises:
        ValueError: a place is outside of the run's folder and, for copies of data, of DATA_DIR.
    """
    for place, text in places_outside(source, cfg):
        allowed = "the run's folder and of DATA_DIR" if place.startswith("data.") else "the run's folder"
        raise ValueError(
            f"{source.file}: {place}={text} is outside of {allowed}\nIf you trust it, type it: {place}=<place>"
        )


def places_outside(source: Source, cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, place) of each place that parts would write to outside of the run's folder, unless typed."""
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    parts = {key: content[key] for key in names("parts") if key in content}
    for place, text in dotted(parts, into_lists=True):
        written = isinstance(text, str) and _is_written(place, content["data"]) and not source.is_typed(place)
        if written and _is_outside(place, text, source):
            yield place, text


def is_unsafe_override(key: str, value: str) -> bool:
    """Whether the override `key=value` may read the environment, or name a host or a place to write to."""
    if "${" in value or "://" in value:
        return True
    return not rule(key, "reads") and bool(FOLDER.search(key) or ABSOLUTE.search(value))


def _is_written(place: str, data: dict[str, Any]) -> bool:
    read = data.get("read")
    if place == "data.root" and isinstance(read, dict) and str(read.get("_target_")).startswith(MADE):
        root = Path(data["root"]).expanduser()
        return not (root.is_dir() and any(root.iterdir()))
    return not rule(place, "reads")


def _is_outside(place: str, text: str, source: Source) -> bool:
    """Whether `text` is a path or an address outside of the writable folders, and not a value of the environment."""
    scheme, _, rest = text.partition(":")
    local = scheme in ("file", "sqlite")
    if "://" in text and not local:
        return text not in os.environ.values()
    if local:
        text = re.sub("^//(?=/)" if scheme == "file" else "^///", "", rest)
    expanded = os.path.expanduser(text)
    if os.path.isabs(expanded) or local or (text and FOLDER.search(place)):
        path = os.path.realpath(expanded)  # relative to the folder that the program was started in
    elif ".." in re.split(r"[/\\]", text):
        path = os.path.realpath(source.folder / text)
    else:
        return False
    return not any(Path(path).is_relative_to(os.path.realpath(root)) for root in _writable(place, scheme, source))


def _writable(place: str, scheme: str, source: Source) -> list[Path]:
    """Return the folders, and the database file, that a part may write to."""
    roots = [source.folder, *(Path(folder).expanduser() for folder in conf_folders())]
    if place.startswith("data."):
        roots.append(Path(os.environ.get("DATA_DIR") or PROJECT / "data"))
    if place.startswith("logger.") and scheme == "sqlite":  # as in conf/logger/mlflow.yaml
        roots.append(Path(os.environ.get("RUNS_DIR") or PROJECT / "runs") / "mlflow.db")
    return roots
