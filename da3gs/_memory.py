"""Memory of this process: how the C library keeps what is free, and how its end is recognised."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator

LARGEST_KEPT = 1 << 25
"""Bytes of the largest tensor that ``kept_memory`` can tell from the others (a bound of glibc's)."""

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "not enough memory", "can't allocate memory", "CUDA out of memory")

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _MMAP_MAX = -3, -1, -4  # of glibc's mallopt


@contextlib.contextmanager
def tight_memory() -> Iterator[None]:
    """Inside the block large tensors go back to the system as soon as they are freed (glibc).

    By default what is freed stays with the process, in pieces that the next tensor may not fit into: up to some hundred
    megabytes, a different number in each run.
    """
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    release_unused()
    mallopt(_MMAP_THRESHOLD, 1 << 20)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)  # what glibc itself arrives at
        mallopt(_TRIM_THRESHOLD, 1 << 26)
        release_unused()


@contextlib.contextmanager
def kept_memory(*, up_to: int | None = None) -> Iterator[None]:
    """Inside the block what is freed stays with the process (glibc).

    For work that asks for the same large tensors again and again: pages fresh from the system are zeroed first, which
    takes longer than many an operation.

    Args:
        up_to: bytes of the largest tensor that stays, ``LARGEST_KEPT`` at most; larger ones go back. None: all stay.
    """
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    release_unused()
    if up_to is None:
        mallopt(_MMAP_MAX, 0)
    else:
        mallopt(_MMAP_THRESHOLD, up_to)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        mallopt(_MMAP_MAX, 65536)  # glibc's own
        mallopt(_TRIM_THRESHOLD, 1 << 26)
        release_unused()


def _mallopt() -> Callable[[int, int], int] | None:
    """The C library's function that says how memory is had, where it is glibc."""
    return getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None


def release_unused() -> None:
    """Give freed memory back to the system, where the C library keeps it for later (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, on whatever device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def peak_memory_mb() -> float | None:
    """The most memory that this process has held so far, in MB; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024), 1)
