"""Reads the comments of conf/: the head of a yaml states its purpose, `key: value  # words` describes a key."""

import re
from pathlib import Path

KEY = re.compile(r"(?P<indent> *)(?P<key>\w+):(?: .*?)?(?:\s+# (?P<words>.*))?")
# A yaml that another one names in its defaults; a name that begins with a slash is below conf/.
PART = re.compile(r"(?m)^  - (?!_self_)([\w/]+)(?:@(\w+))?$")


def head(text: str) -> str:
    """The comment at the top of a yaml."""
    lines = text.splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line[2:] for line in lines[:end])


def descriptions(text: str) -> dict[str, str]:
    """Dotted key -> its comment, including comment lines below it that begin in the same column."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []  # (indent, key) from the root to the line's key
    column = -1
    for line in text.splitlines():
        key = KEY.fullmatch(line)
        if key:
            path = [*(outer for outer in path if outer[0] < len(key["indent"])), (len(key["indent"]), key["key"])]
            column = key.start("words")
        words = line[column:] if key else line.strip()[2:]
        if column > 0 and (key or line[:column].strip() == "#" == line[column - 2]):
            place = ".".join(name for _, name in path)
            found[place] = f"{found[place]} {words}" if place in found else words
        else:
            column = -1
    return found


def described(file: Path, place: str = "") -> dict[str, str]:
    """Return the descriptions of a yaml, and of the yamls that its defaults name.

    Args:
        file: the yaml, in a group's folder if a name in its defaults begins with a slash.
        place: the dotted key under which it is composed; `# @package` in the yaml takes precedence.
    """
    text = file.read_text("utf-8")
    package = re.match(r"# @package (\S+)", text)
    place = package[1].replace("_global_", "") if package else place
    found: dict[str, str] = {}
    for name, inner in PART.findall(text):
        folder = file.parents[1] if name.startswith("/") else file.parent
        found |= described(folder / f"{name.lstrip('/')}.yaml", _joined(place, inner.replace("_here_", "")))
    return found | {_joined(place, key): words for key, words in descriptions(text).items()}


def _joined(*keys: str) -> str:
    return ".".join(key for key in keys if key)
