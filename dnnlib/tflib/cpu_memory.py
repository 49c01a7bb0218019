"""Memory of tensors on the CPU: kept by the process, instead of being given back and asked for anew at every operation.

Memory fresh from the system costs a page fault for every 4 kB. In a virtual machine, training at 64x64 spent an eighth
of its time on them.
"""

from __future__ import annotations

import os

_TIMES = 4  # as much address space as memory, at most: the allocator counts what it has asked for, not what is touched


def keep_cpu_memory() -> None:
    """Make TensorFlow's CPU tensors share large blocks that stay with the process (its "best fit with coalescing"
    allocator). Call before the first session.

    Of the environment, `TF_CPU_ALLOCATOR_USE_BFC` (`0`: as TensorFlow does it by itself) and
    `TF_CPU_BFC_MEM_LIMIT_IN_MB` count where they are set.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
    memory = machine_memory()
    if memory is not None:  # else TensorFlow takes 64 GB at most
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(_TIMES * (memory >> 20)))


def machine_memory() -> int | None:
    """Bytes of memory of this machine; None: unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
