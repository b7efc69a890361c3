"""Finds passwords and keys by the names of the variables that hold them, and masks them in all files of a run."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from fovea.config.resolvers import PROJECT

WORDS = r"api[_-]?key|access[_-]?key|private[_-]?key|token|secret|passw|credential"
SECRET = re.compile(WORDS, re.IGNORECASE)
HIDDEN = "***"
REFERENCE = re.compile(r"\$\{.*\}", re.DOTALL)
SHORTEST = 6  # characters; shorter values are not masked in other texts, as they may be common words

URL = re.compile(r"(\w+://)(?:([^/@\s:'\"]+):)?[^/@\s:'\"]+@")  # scheme://user:password@host, scheme://token@host
QUOTED = r'[fbruFBRU]*(?:"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\')'
HARMLESS = r"(?:\d{1,5}|true|false|null|none|\$\{[^}]*\}|\*\*\*)\s*(?:[,}\])#].*)?$"
NAMED = rf"""(?P<name>[\w.\-]*(?:{WORDS})[\w.\-]*[\\"'\])]*(?:\s*[:=]+\s*|,\s*(?=[fbruFBRU]*["']))
    |--[\w\-]*(?:{WORDS})[\w\-]*\s+ | \bbearer\s+)"""
IN_TEXT = re.compile(rf"{NAMED}(?!{HARMLESS})(?P<value>{QUOTED}|\S.*)", re.IGNORECASE | re.VERBOSE)
IN_CODE = re.compile(rf"{NAMED}(?:[\w.\[\]|, ]+=\s*)?(?P<value>{QUOTED})", re.IGNORECASE | re.VERBOSE)
BLOCK = re.compile(rf"(?:{WORDS})[\w.\-]*[\"']?\s*[:=]\s*(?:[|>][-+]?|\(|\\|\"\"\"|''')\s*$", re.IGNORECASE)


def secret_values() -> list[str]:
    """Return the values of variables with secret names in the environment, .env and the command line; longest first.

    Values are split into lines; lines shorter than SHORTEST are left out. Existing paths are left out too: they locate
    a secret.
    """
    values = [value for name, value in [*os.environ.items(), *_of_dotenv(PROJECT / ".env")] if SECRET.search(name)]
    values += [found["value"].strip("'\"{}, ") for word in sys.argv for found in IN_TEXT.finditer(word)]
    lines = {line.strip() for value in values for line in value.splitlines()}
    return sorted((x for x in lines if len(x) >= SHORTEST and not os.path.exists(x)), key=len, reverse=True)


def without_values(text: str, values: Sequence[str]) -> str:
    """Mask these values in `text`, and the passwords in its URLs."""
    for value in values:
        text = text.replace(value, HIDDEN)
    return URL.sub(lambda url: f"{url[1]}{url[2] + ':' if url[2] else ''}{HIDDEN}@", text)


def without_secrets(text: str, values: Sequence[str]) -> str:
    """Mask these values and also what follows a secret name, such as `api_key=`, in a command line or a diff.

    In a diff of Python code only quoted texts are masked, because `cls_token = zeros(1)` is not a secret.
    """
    return "\n".join(_lines(without_values(text, values).split("\n")))


def _lines(lines: Sequence[str]) -> Iterator[str]:
    pattern, block = IN_TEXT, None
    for line in lines:
        indent = len(line) - len(line[1:].lstrip())
        if block is not None and (indent > block or not line[1:].strip()):
            yield f"{line[:1]}{HIDDEN}"
            continue
        block = indent if BLOCK.search(line) else None
        if line.startswith("+++ "):
            pattern = IN_CODE if line.endswith(".py") else IN_TEXT
        yield pattern.sub(lambda found: f"{found['name']}{HIDDEN}", line)


def secrets_in(content: Any, name: str = "") -> list[str]:
    """Return `secret_values` and the values of keys with secret names in plain containers."""
    return sorted({*secret_values(), *_under_secret_names(content, name)}, key=len, reverse=True)


def _under_secret_names(node: Any, name: str) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _under_secret_names(value, str(key))
    elif isinstance(node, list):
        for value in node:
            yield from _under_secret_names(value, name)
    elif isinstance(node, str | int) and SECRET.search(name) and len(str(node)) >= SHORTEST:
        yield str(node)


def masked(node: Any, secrets: Sequence[str], name: str = "") -> Any:
    """Return plain containers in which the values of secret names, and `secrets` within other texts, are masked.

    A reference such as ${oc.env:WANDB_API_KEY} stays.
    """
    if isinstance(node, dict):
        return {key: masked(value, secrets, str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [masked(value, secrets, name) for value in node]
    secret = bool(SECRET.search(name))
    if isinstance(node, int):
        return HIDDEN if secret and len(str(node)) >= SHORTEST else node  # a number, but not True
    if not isinstance(node, str):
        return node
    return HIDDEN if secret and not REFERENCE.fullmatch(node) else without_values(node, secrets)


def map_texts(content: object, change: Callable[[str], str]) -> object:
    """Return plain containers in which `change` was applied to every text."""
    if isinstance(content, dict):
        return {key: map_texts(value, change) for key, value in content.items()}
    if isinstance(content, list):
        return [map_texts(value, change) for value in content]
    return change(content) if isinstance(content, str) else content


class Formatter(logging.Formatter):
    """A log formatter that masks the values of secrets, which libraries may print in their errors."""

    def __init__(self, *options: Any, **more: Any) -> None:
        super().__init__(*options, **more)
        secret_values()  # reads .env now, because reading it may log a warning

    def format(self, record: logging.LogRecord) -> str:
        return without_values(super().format(record), secret_values())


@cache
def _of_dotenv(file: Path) -> tuple[tuple[str, str], ...]:
    """Read .env once, without warnings about bad lines: loading the environment has reported these."""
    logging.getLogger("dotenv").setLevel(logging.ERROR)
    return tuple((name, value) for name, value in dotenv_values(file).items() if value)
