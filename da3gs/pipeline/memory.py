"""How much memory a reconstruction needs, before it runs, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import sys


def release_unused() -> None:
    """Give freed memory back to the system, where the C library keeps it for later (glibc)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
