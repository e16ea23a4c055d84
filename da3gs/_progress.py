"""How long work tells its caller how far it is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called with the stage's name (what is being done, lower case), how much is done, and how much there is in all."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note; must be quick and must not raise, but for KeyboardInterrupt-like cancellation."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress that nobody watches."""
