"""How the C library treats freed memory. Imports no torch: detection without torch wants it, too."""

import ctypes
import os

# mallopt's parameters, from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Ask the C library to reuse large blocks instead of returning them to the kernel.

    By default glibc maps every large tensor anew and unmaps it when it is freed, so a CPU training step
    spends more than half its time on page faults: scrfd_500m_bnkps, batch 16, two cores, 2.4 s per
    step with the default and 1.1 s without (docs/decisions.md). Other C libraries lack mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 << 20)
