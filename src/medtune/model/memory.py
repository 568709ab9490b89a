"""How the process holds memory while a model runs on the CPU."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_ONE_GIB = 1 << 30


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
