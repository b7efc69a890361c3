"""A setting of the C library's memory allocator that makes training on a CPU faster. Imports no torch."""

import ctypes

# of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1  # bytes; mallopt takes an int
LARGEST_BEFORE = 2**25  # the largest M_MMAP_THRESHOLD of earlier versions


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for later allocations instead of returning it to the system.

    A training step on a CPU frees its activations, and the next one allocates them again; the system would fill every
    page with zeros each time (scripts/benchmark_allocator.py measures it). The most memory that is used at once stays
    the same. Allocations of 2 GB and more are returned as before.

    glibc only, https://man7.org/linux/man-pages/man3/mallopt.3.html; other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc; Windows can't load the program itself
        return
    if not mallopt(M_MMAP_THRESHOLD, LARGEST):
        mallopt(M_MMAP_THRESHOLD, LARGEST_BEFORE)
    mallopt(M_TRIM_THRESHOLD, LARGEST)
