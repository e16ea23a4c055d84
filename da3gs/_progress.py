"""Progress of long work, told to its caller, and the seconds of its stages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called with the stage's name (what is being done, lower case), how much is done, and how much there is in all."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note; must be quick and must not raise, but for KeyboardInterrupt-like cancellation."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress that nobody watches."""


class Stopwatch:
    """Seconds of each stage, in the order in which the stages first began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
