"""In how large pieces the network works where no gradients are recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_divisor: ContextVar[int] = ContextVar("divisor", default=1)


@contextlib.contextmanager
def smaller_chunks(times: int = 8) -> Iterator[None]:
    """Inside the block the network works in pieces this many times smaller: slower, in less memory.

    Numbers change in their last digits at most.
    """
    token = _divisor.set(_divisor.get() * times)
    try:
        yield
    finally:
        _divisor.reset(token)


def chunk(usual: int) -> int:
    """Size of a chunk that goes through together, of usually ``usual``."""
    return max(1, usual // _divisor.get())
