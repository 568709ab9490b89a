"""How the process holds memory while a model runs on the CPU."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_ONE_GIB = 1 << 30
_KERNELS = "64"


def keep_freed_memory() -> None:
    """Let glibc keep blocks that torch frees instead of handing them back to the kernel.

    Every training step frees and asks again for the same tens of megabytes.  By default each
    of these blocks is mapped anew and its pages are faulted in one by one: a third of the time
    of a step on a small model.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _ONE_GIB)
        mallopt(_M_TRIM_THRESHOLD, _ONE_GIB)


def keep_few_kernels() -> None:
    """Let oneDNN keep the kernels of the last few shapes, not of the last thousand.

    It compiles one per shape of a product and keeps it with its buffers; rows of text have a
    shape for every length.  By default a short training of a small model gathers half a
    gigabyte in this way; compiling a kernel again now and then costs nothing that can be
    measured.  Counts from the first product of the process, so it is called before that.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, _KERNELS)


def peak_memory() -> int:
    """The most main memory that this process has held, in bytes.

    ``getrusage`` would count what the parent held when it forked this process, also after exec.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024
