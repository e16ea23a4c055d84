"""What a hostile case is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One command that must fail with one line on stderr, and leave nothing behind."""

    name: str
    """Unique, in words with dashes; the test's id."""
    build: Callable[[Path], list[str]]
    """Fills an empty folder (the command's working folder) and returns the arguments after ``da3gs``."""
    expect: str
    """A regular expression that the line on stderr must contain."""
    code: int = 2
    """The exit status."""
