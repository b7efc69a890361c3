"""Loads the project's .env into the environment and makes folder variables absolute."""

import io
import os
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from fovea.cli.paths import expanded
from fovea.config.resolvers import PROJECT

FOLDERS = ("IMAGENET_DIR", "DATA_DIR", "RUNS_DIR")


def load_environment() -> None:
    """Set the variables of .env that the environment lacks. An empty folder variable counts as unset.

    A relative folder in .env is relative to the project; in the environment it is relative to the current folder.

    Raises:
        ValueError: .env can't be read.
    """
    for name in FOLDERS:
        if os.environ.get(name):
            os.environ[name] = _folder(name, Path.cwd())
    for name, value in _variables(PROJECT / ".env").items():
        if name not in os.environ:
            os.environ[name] = value
            if name in FOLDERS and value:
                os.environ[name] = _folder(name, PROJECT)
    for name in FOLDERS:
        if os.environ.get(name) == "":
            del os.environ[name]


def _folder(name: str, base: Path) -> str:
    path = expanded(name, os.environ[name])
    return path if "://" in path else os.path.abspath(base / path)


def _variables(file: Path) -> dict[str, str]:
    """NAME -> value; {} if the file does not exist."""
    if not file.is_file():
        return {}
    text = _text(file)
    for statement in parse_stream(io.StringIO(text)):
        if statement.error:
            raise ValueError(f"{file}, line {statement.original.line}: NAME=value is expected (# begins a comment)")
    return {name: value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value is not None}


def _text(file: Path) -> str:
    content = file.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content:
        raise ValueError(f"{file} is in UTF-16, as some editors and PowerShell write it: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}, line {line}: a letter is not UTF-8: save the file as UTF-8") from None
