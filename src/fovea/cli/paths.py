"""Quotes the values of keys that hold paths or names (column `typed` of config/keys.py), so that they stay text.

Hydra's grammar would read 2024_01_05 as the number 20240105 and 1e3 as 1000.0, and would reject é, ( and =.
"""

import os
import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from fovea.config.keys import Typed, names, row

FUNCTION = re.compile(r"(choice|glob|range|interval|shuffle|sort|tag|str|extend_list)\(.*\)$")  # Hydra's
QUOTED = re.compile(r"""'([^'\\]|\\.)*'|"([^"\\]|\\.)*\"""")
CHOICE = re.compile(rf"(?:^|,)\s*((?:{QUOTED.pattern})(?=\s*(?:,|$))|[^,]*)")  # one value of a sweep's list
VARIABLE = re.compile(
    r"\$(?:\{([A-Z_][A-Z0-9_]*)\}|([A-Z_][A-Z0-9_]*))"
)  # capitals only, as ${data_dir} is a config key
FROM_HERE = (Typed.PATH_FROM_HERE, Typed.PATH_OR_NAME)


def quoted(word: str, sweeps: bool = False) -> str:
    """Return the override, its value in quotes if Hydra would otherwise change or reject it.

    Args:
        word: one word of the command line.
        sweeps: the command has -m, so commas separate the values of a sweep.

    Raises:
        ValueError: a path begins with a variable that is not set.
    """
    key, _, value = word.partition("=")
    if word.startswith(("-", "~")) or not value:
        return word
    name = key.lstrip("+")
    if row(name).typed:
        several = sweeps and not FUNCTION.match(value)
        choices = [one[1].strip() for one in CHOICE.finditer(value)] if several else [value]
        return f"{key}=" + ",".join(_as_text(name, one) for one in choices)
    if value[0] in "'\"[{$" or _read_by_hydra(value):
        return word
    return f"{key}={_in_quotes(value)}"


def value_of(word: str) -> str:
    """The value of an override that `quoted` returned, as text."""
    read = _read_by_hydra(word.partition("=")[2])
    value = read.value() if read else None
    return value if isinstance(value, str) else ""


def with_value(key: str, value: str | Path) -> str:
    """The override that sets a key to this text."""
    return f"{key}={_in_quotes(str(value))}"


def expanded(key: str, path: str) -> str:
    """Expand ~, ~user, $NAME and ${NAME} in a path; an unknown user or variable stays as it is.

    Raises:
        ValueError: the path begins with a variable that is not set: a folder with the variable's name would be made.
    """
    path = os.path.expanduser(path)
    first = VARIABLE.match(path)
    if first and (first[1] or first[2]) not in os.environ and path[first.end() : first.end() + 1] in ("", "/"):
        raise ValueError(f"{key}={path}: the environment has no variable {first[1] or first[2]}")
    return VARIABLE.sub(lambda found: os.environ.get(found[1] or found[2], found[0]), path)


def make_absolute(cfg: DictConfig, here: Path) -> None:
    """Make paths that are relative to the folder `here` absolute.

    The job may run in its own folder (hydra.job.chdir=true), and may be resumed from any folder.
    """
    for key in names("typed"):
        value = OmegaConf.select(cfg, key)
        if row(key).typed not in FROM_HERE or not isinstance(value, str) or not value or "://" in value:
            continue
        path = here / os.path.expanduser(value)
        if str(path) == value:  # absolute already; writing it would replace a reference to another key
            continue
        if row(key).typed != Typed.PATH_OR_NAME or path.is_file():
            OmegaConf.update(cfg, key, str(path))


def _as_text(key: str, value: str) -> str:
    typed = row(key).typed
    words = ("null", "false") if typed == Typed.TEXT_OR_FALSE else ("null",)
    if not value or value.lower() in words or QUOTED.fullmatch(value) or FUNCTION.match(value):
        return value
    text = value if typed in (Typed.TEXT, Typed.TEXT_OR_FALSE) else expanded(key, value)
    read = _read_by_hydra(text)
    return text if read and read.value() == text else _in_quotes(text)


def _in_quotes(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


def _read_by_hydra(value: str) -> Override | None:
    """Parse a plain value as Hydra does; None if Hydra can't."""
    try:
        return OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None
