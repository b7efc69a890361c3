"""Searches the largest batch size that fits into memory."""

from collections.abc import Callable

CLOSE = 8  # the search ends when the next size that doesn't fit is less than 1/CLOSE larger


def largest_fitting(fits: Callable[[int], bool], first: int, limit: int) -> int:
    """Return a batch size that fits while one that is at most 1/CLOSE larger (or one image) does not; 0 if none fits.

    The size is doubled until it doesn't fit, or halved until it does; then the gap is bisected.

    Args:
        fits: whether a batch size fits; it is assumed that smaller ones fit too.
        first: the size to begin with, > 0.
        limit: the largest size to try, >= first.
    """
    low, high = 0, limit + 1
    size = first
    while low < size < high:
        if fits(size):
            low, size = size, min(2 * size, limit)
        else:
            high, size = size, size // 2 if low == 0 else low
    while low and high - low > max(1, low // CLOSE):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def doubled(first: int, limit: int) -> list[int]:
    """Return first, 2 first, 4 first, ... up to the limit, which is included."""
    sizes = [first]
    while 2 * sizes[-1] < limit:
        sizes.append(2 * sizes[-1])
    return sizes if sizes[-1] >= limit else [*sizes, limit]
