"""How the C library gives memory back, in processes that handle one large image after the other."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_FROM_SYSTEM = 32 << 20  # bytes from which a block is one of the system's own: the most that glibc accepts
_KEPT = 64 << 20  # free bytes at the end of the heap that stay with the process


def keep_freed_memory() -> bool:
    """Lets this process use freed memory again where it would give it back and ask for it anew with every image.

    Memory fresh from the system costs a page fault for every 4 kB: with large images, more time than decoding them.

    Returns:
        Whether the C library can be told; it is glibc's `mallopt`, elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_MMAP_THRESHOLD, _FROM_SYSTEM)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
    return False
