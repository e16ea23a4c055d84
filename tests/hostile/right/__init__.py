"""Inputs of the kinds that go wrong silently elsewhere, each with the value that is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["folders", "names", "colors", "masks", "lenses", "splats", "losses", "limits", "fuzz"]
"""What such an input is about."""
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Right:
    """One input and the check of what comes of it."""

    name: str
    """The test's id, after its kind."""
    kind: Kind
    """What it is about."""
    run: Callable[[Path], None]
    """Makes the input in an empty folder, and holds the outcome to the right value."""


RIGHT: list[Right] = []
"""All of them, filled by the modules beside this one."""


def right(kind: Kind) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Take a function in as a case of this kind, under its own name."""

    def taken(run: Callable[[Path], None]) -> Callable[[Path], None]:
        RIGHT.append(Right(run.__name__.replace("_", "-"), kind, run))
        return run

    return taken


def case(kind: Kind, name: str, run: Callable[[Path], None]) -> None:
    """Take in one of several cases that differ by a value."""
    RIGHT.append(Right(name, kind, run))
