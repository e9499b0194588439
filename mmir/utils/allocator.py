"""Freed memory that the process keeps for the next operator."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
NEVER, LARGE = 2**31 - 1, 2**30
"""Bytes: above all that is freed at the end of the heap, and above any tensor."""


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, on Linux with glibc.

    glibc returns large freed blocks to the system, which clears them page by page when
    the next operator asks for as much. On a CPU that can take a third of a training.
    The process keeps its peak of memory until it ends.

    Returns:
        bool: Whether the allocator is glibc's and agreed.
    """
    if sys.platform != 'linux':
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:  # another C library
        return False
    return bool(mallopt(TRIM_THRESHOLD, NEVER) and mallopt(MMAP_THRESHOLD, LARGE))
