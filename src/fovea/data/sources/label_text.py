"""Parses class names written as text in a table and checks them for likely mistakes."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from fovea.data.class_names import MISSING, is_number

log = logging.getLogger(__name__)

LIST, NONE = "list", "none"  # special separators, see `splitter`
USUAL = ("|", ";", ",")
POSSIBLE = (*USUAL, "/")  # a slash also occurs inside names
ITEM = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s,'"][^,'"]*))\s*(?:,|(?=['"])|$)""")


def splitter(separator: str) -> Callable[[str], list[str]]:
    """Return a function that splits a text into names and strips the spaces around them.

    "list" parses Python or JSON lists such as ['cat', 'dog']; "none" takes the whole text as one name.
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
        raise ValueError(f"{text[:60]!r} is not a list such as ['cat', 'dog']")
    names, position, inside = list[str](), 0, text[1:-1].rstrip().rstrip(",")
    while position < len(inside):
        item = ITEM.match(inside, position)
        if item is None:
            raise ValueError(f"{text[:60]!r} is not a list such as ['cat', 'dog']")
        names.append(next(part for part in item.groups() if part is not None).strip())
        position = item.end()
    return [name for name in names if name]


def guess_separator(texts: Collection[str]) -> str:
    """Guess the separator of the names in the texts; "none" if each text seems to be one name."""
    unique = {text.strip() for text in texts} - {""}
    if any(_is_list(text) for text in unique):
        return LIST
    likely = [mark for mark in (*POSSIBLE, " ") if any(_joins_other_names(unique, mark).values())]
    occurring = [mark for mark in USUAL if any(mark in text for text in unique)]
    return (likely + occurring + [NONE])[0]


def _is_list(text: str) -> bool:
    return re.match(r"""[\[{]|\(\s*['"]""", text) is not None


def _joins_other_names(texts: Collection[str], mark: str) -> dict[str, bool]:
    """For each text that contains the mark, return whether all its parts also occur in other texts."""
    parts_of = {text: {part.strip() for part in text.split(mark)} - {""} for text in texts}
    uses = Counter(part for parts in parts_of.values() for part in parts)
    return {text: all(uses[part] > 1 for part in parts) for text, parts in parts_of.items() if mark in text}


def check_names(where: str, counts: Mapping[str, int], remedy: str) -> None:
    """Warn about names that contain a usual separator.

    Args:
        where: the file and column, for messages.
        counts: name -> the number of images that have it.
        remedy: what to do if a name is several names; `{separator}` in it is replaced by the likely separator.

    Raises:
        ValueError: names are written as a list or in quotes, or consist of other names and a separator.
    """
    lists = [name for name in counts if _is_list(name) or re.fullmatch(r"""(['"]).*\1""", name)]
    if lists:
        raise ValueError(
            f"{where}: {_describe(lists, counts)} with brackets or quotes, like a list.\n"
            + remedy.format(separator=LIST)
        )
    for mark in POSSIBLE:
        joined, hint = _joins_other_names(counts, mark), remedy.format(separator=mark)
        if mark in USUAL and (combined := [name for name, parts_are_names in joined.items() if parts_are_names]):
            raise ValueError(f"{where}: {_describe(combined, counts)} that are other names joined by {mark!r}.\n{hint}")
        if joined:
            log.warning(
                "%s: %s with %r: if these are several names, %s", where, _describe([*joined], counts), mark, hint
            )


def _describe(names: Sequence[str], counts: Mapping[str, int]) -> str:
    images = sum(counts[name] for name in names)
    return f"{images:,} images have {len(names):,} names, such as {', '.join(map(repr, names[:3]))},"


def check_no_missing_labels(
    file: Path, column: str, lines: Iterable[int], texts: Iterable[str], empty_too: bool
) -> None:
    """Raise ValueError if a label is written as a missing value such as `nan`, or is empty (with `empty_too`)."""
    markers = MISSING | {""} if empty_too else MISSING
    stripped = [text.strip() for text in texts]
    missing = [(line, text) for line, text in zip(lines, stripped, strict=True) if text.casefold() in markers]
    if missing:
        counts = Counter(text for _, text in missing)
        values = ", ".join(f"{text or 'nothing'!r} in {count:,}" for text, count in counts.most_common(3))
        first = ", ".join(str(line) for line, _ in missing[:5])
        remedy = "Give these rows a label or remove them" if empty_too else "Leave a field empty if no class is present"
        raise ValueError(
            f"{file}, column {column!r}: {len(missing):,} rows have no label ({values}), first in lines {first}.\n"
            f"{remedy}."
        )


def log_classes(file: Path, counts: Mapping[str, int], images: int, without: int = 0) -> None:
    """Log the classes with their image counts, the most frequent first; `without` images have no class."""
    ordered = sorted(counts, key=lambda name: -counts[name])
    classes = ", ".join(f"{name!r} {counts[name]:,}" for name in ordered[:8]) + (", ..." if len(ordered) > 8 else "")
    no_class = f", {without:,} of them with no class" if without else ""
    log.info("%s: %d classes in %s images%s: %s", file, len(counts), f"{images:,}", no_class, classes)


def sort_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Sort class names into the order of the class indices: whole numbers by value, otherwise as text."""
    names = sorted(names)
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(names)


def without_zero_fraction(text: str) -> str:
    """Return `1` for `1.0`, which pandas writes for whole numbers if the column has missing values."""
    return text.partition(".")[0] if is_number(text) and re.fullmatch(r"-?\d+\.0+", text) else text
