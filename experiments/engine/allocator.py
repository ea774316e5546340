"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
# Blocks up to so many bytes are kept. Older versions of glibc refuse more than 32 MiB, and take the second value.
KEPT = (2**30, 2**25)


def keep_memory() -> bool:
    """Have glibc keep freed memory for this process's next blocks; return False, with no effect, for another C library.

    By default a block of some MiB goes back to the system when it is freed, and the next one is mapped, and zeroed
    page by page, anew: a third of the time of a small network on one thread. See mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return any(mallopt(M_MMAP_THRESHOLD, size) == 1 for size in KEPT) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1) == 1
