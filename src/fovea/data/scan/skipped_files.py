"""Describes the files that a scan skips because they are not images."""

from collections.abc import Mapping

from fovea.data.pixels.decode import HEIF_EXTENSIONS, INSTALL_HEIF

MAX_NAMED = 5  # endings


def describe_skipped(endings: Mapping[str, int]) -> str:
    """Count skipped files by ending, such as `12 .txt, 3 .json, 2 hidden`; for HEIC, add how to make them readable."""
    counts = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{count} {ending}" for ending, count in counts[:MAX_NAMED]]
    if rest := sum(count for _, count in counts[MAX_NAMED:]):
        words.append(f"{rest} others")
    return ", ".join(words) + heif_hint(endings)


def heif_hint(endings: Mapping[str, int]) -> str:
    """Return how to install a HEIC reader if HEIC files were skipped, else an empty string."""
    heif = sum(endings.get(ending, 0) for ending in HEIF_EXTENSIONS)
    return f"; to read the {heif} HEIC: {INSTALL_HEIF}" if heif else ""
