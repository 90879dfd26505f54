"""Settings of the whole process: freed memory is kept, waiting threads sleep, images are bounded.

Imports no torch: threads must be told before it loads, and detection without torch wants memory kept, too.
"""

import ctypes
import gc
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # of prctl, from prctl.h
# mallopt's parameters, from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


MAX_IMAGE_PIXELS = 150_000_000  # of an image that is decoded: 450 MB; a small file can state many more


def limit_image_pixels() -> None:
    """Let OpenCV refuse by its header an image of more than MAX_IMAGE_PIXELS, in every format.

    OpenCV reads the limit when it is first imported; OPENCV_IO_MAX_IMAGE_PIXELS of the environment wins.
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_IMAGE_PIXELS))


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


def let_threads_sleep() -> None:
    """Ask OpenMP's threads to sleep while they wait, instead of keeping their cores busy.

    An operator's threads meet after each of its loops. A thread that spins there keeps a core from the
    loader's workers, and from the very thread it waits for: on two busy cores a step of scrfd_500m took
    2 to 5 times as long (docs/decisions.md). OMP_WAIT_POLICY=ACTIVE in the environment wins over this.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def without_collection() -> Iterator[None]:
    """Leave out the search for garbage, a seventh of the time of torch's import, whose objects all stay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def end_with_parent(number: int) -> None:
    """Ask Linux to send this process a signal when the thread that started it ends; no orphan stays."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def describe_memory() -> str:
    """Return how much memory and /dev/shm is free, for the message about a process that was killed."""
    parts = []
    with suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        sizes = [int(lines[name].split()[0]) / 2**20 for name in ("MemAvailable", "MemTotal")]
        parts.append("{:.1f} of {:.1f} GiB memory".format(*sizes))
    with suppress(OSError):
        usage = shutil.disk_usage("/dev/shm")
        parts.append(f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB of /dev/shm")
    return f"free: {', '.join(parts)}" if parts else "free memory unknown"
