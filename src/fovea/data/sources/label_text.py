"""Class names written as text in a table: how they are separated, and what is doubtful about them."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from fovea.data.class_names import MISSING, is_number

log = logging.getLogger(__name__)

LIST, NONE = "list", "none"  # what a separator may be beside a text
USUAL = ("|", ";", ",")
PERHAPS = (*USUAL, "/")  # a slash is part of many names
ITEM = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s,'"][^,'"]*))\s*(?:,|(?=['"])|$)""")


def splitter(separator: str) -> Callable[[str], list[str]]:
    """text -> the names in it, without spaces around them.

    `list` reads lists as Python or JSON write them, such as ['cat', 'dog']; `none` takes the text as one name.
    """
    if separator == LIST:
        return _read_list
    if separator == NONE:
        return lambda text: [name] if (name := text.strip()) else []
    return lambda text: [name for part in text.split(separator) if (name := part.strip())]


def _read_list(text: str) -> list[str]:
    text = text.strip()
    if not text:
        return []
    if text[0] + text[-1] not in ("[]", "()", "{}"):
        raise ValueError(f"{text[:60]!r} is no list such as ['cat', 'dog']")
    names, place, inside = list[str](), 0, text[1:-1].rstrip().rstrip(",")
    while place < len(inside):
        item = ITEM.match(inside, place)
        if item is None:
            raise ValueError(f"{text[:60]!r} is no list such as ['cat', 'dog']")
        names.append(next(part for part in item.groups() if part is not None).strip())
        place = item.end()
    return [name for name in names if name]


def proposed_separator(texts: Collection[str]) -> str:
    """The separator that the texts seem to use; `none` where they seem to be one name each."""
    different = {text.strip() for text in texts} - {""}
    if any(_is_list(text) for text in different):
        return LIST
    likely = [mark for mark in (*PERHAPS, " ") if any(_joins_others(different, mark).values())]
    there = [mark for mark in USUAL if any(mark in text for text in different)]
    return (likely + there + [NONE])[0]


def _is_list(text: str) -> bool:
    return re.match(r"""[\[{]|\(\s*['"]""", text) is not None


def _joins_others(texts: Collection[str], mark: str) -> dict[str, bool]:
    """Of each text that holds the mark, whether all its parts are in other texts too."""
    parts = {text: {part.strip() for part in text.split(mark)} - {""} for text in texts}
    uses = Counter(part for some in parts.values() for part in some)
    return {text: all(uses[part] > 1 for part in some) for text, some in parts.items() if mark in text}


def check_names(where: str, counts: Mapping[str, int], remedy: str) -> None:
    """Warns of names that hold a usual separator.

    Args:
        where: the file and column, for messages.
        counts: of each name, how many images have it.
        remedy: what to do about names that are several; `{separator}` in it is replaced by what they seem to use.

    Raises:
        ValueError: names are written as a list, in quotes, or are several of the other names with a separator.
    """
    listed = [name for name in counts if _is_list(name) or re.fullmatch(r"""(['"]).*\1""", name)]
    if listed:
        raise ValueError(
            f"{where}: {_described(listed, counts)} with brackets or quotes, as of a list.\n"
            + remedy.format(separator=LIST)
        )
    for mark in PERHAPS:
        joined = _joins_others(counts, mark)
        if mark in USUAL and (several := [name for name, parts_are_names in joined.items() if parts_are_names]):
            told = _described(several, counts)
            raise ValueError(
                f"{where}: {told} that are several other names with {mark!r}.\n" + remedy.format(separator=mark)
            )
        if joined:
            log.warning(
                "%s: %s with %r: if these are several names, %s",
                where,
                _described([*joined], counts),
                mark,
                remedy.format(separator=mark),
            )


def _described(names: Sequence[str], counts: Mapping[str, int]) -> str:
    images = sum(counts[name] for name in names)
    return f"{images:,} images have {len(names):,} names, such as {', '.join(map(repr, names[:3]))},"


def check_there(file: Path, column: str, lines: Iterable[int], texts: Iterable[str], empty_too: bool) -> None:
    """Raises ValueError where a label is written as a missing value such as `nan`, or, with `empty_too`, is empty."""
    missing = MISSING | {""} if empty_too else MISSING
    found = [
        (line, text.strip()) for line, text in zip(lines, texts, strict=True) if text.strip().casefold() in missing
    ]
    if found:
        counts = Counter(text for _, text in found)
        told = ", ".join(f"{text or 'nothing'!r} in {count:,}" for text, count in counts.most_common(3))
        first = ", ".join(str(line) for line, _ in found[:5])
        remedy = "Give these rows a label or take them out" if empty_too else "Write nothing where no class is present"
        raise ValueError(
            f"{file}, column {column!r}: {len(found):,} rows have no label ({told}), first in lines {first}.\n{remedy}."
        )


def say_classes(file: Path, counts: Mapping[str, int], images: int, without: int = 0) -> None:
    """Logs the classes with how many images each has, the most frequent first."""
    most = sorted(counts, key=lambda name: -counts[name])
    told = ", ".join(f"{name!r} {counts[name]:,}" for name in most[:8]) + (", ..." if len(most) > 8 else "")
    nothing = f", {without:,} of them with no class" if without else ""
    log.info("%s: %d classes in %s images%s: %s", file, len(counts), f"{images:,}", nothing, told)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names as their indices go: whole numbers by their value, anything else sorted as text."""
    names = sorted(names)
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(names)


def without_zero_fraction(text: str) -> str:
    """`1.0` as `1`: tables write whole numbers so where a value of the column is missing."""
    return text.partition(".")[0] if is_number(text) and re.fullmatch(r"-?\d+\.0+", text) else text
