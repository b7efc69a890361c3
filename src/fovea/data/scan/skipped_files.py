"""What lies beside images and is not read, in words."""

from collections.abc import Mapping

from fovea.data.pixels.decode import GET_HEIF, HEIF_EXTENSIONS

NAMED = 5  # endings


def in_words(endings: Mapping[str, int]) -> str:
    """`12 .txt, 3 .json, 2 hidden`, the most frequent first; and where to get what reads HEIC, if there is any."""
    counts = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{count} {ending}" for ending, count in counts[:NAMED]]
    if rest := sum(count for _, count in counts[NAMED:]):
        words.append(f"{rest} others")
    return ", ".join(words) + how_to_read(endings)


def how_to_read(endings: Mapping[str, int]) -> str:
    """The command that makes HEIC readable, where such files were passed over; else nothing."""
    heif = sum(endings.get(ending, 0) for ending in HEIF_EXTENSIONS)
    return f"; to read the {heif} HEIC: {GET_HEIF}" if heif else ""
