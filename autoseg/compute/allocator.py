"""Memory that the C library keeps for the next step.

Left to itself, glibc gives every large array back to the system when it is freed, and takes fresh pages for the next
one, which the system clears first: on a CPU that was a third of a training step and half of a prediction
(benchmarks/LOG.md).
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# Parameters of glibc's `mallopt` (malloc.h).
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
M_ARENA_MAX = -8
LARGEST_INT = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for good; return whether its C library can do that.

    The process then holds the most that it ever needed at once, and some more, for free blocks of different sizes lie
    side by side.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # The arenas that threads have of their own hold no large array: those would be mapped again.
    wanted = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, LARGEST_INT), (M_ARENA_MAX, 1))
    return all([mallopt(parameter, value) for parameter, value in wanted])
