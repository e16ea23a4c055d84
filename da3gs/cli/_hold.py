"""Holding back stderr, that of native libraries too, until it is known how a run ends."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import tempfile
from typing import TextIO


class HeldStderr:
    """While started, what Python and native code write to stderr goes to memory; then it is shown or forgotten."""

    def __init__(self) -> None:
        """Not started yet."""
        self._original: TextIO | None = None
        self._saved: int | None = None
        self._buffer = -1
        self._watches = False

    def start(self) -> None:
        """Begin to hold back."""
        self._original = sys.stderr
        with contextlib.suppress(OSError, ValueError):
            self._original.flush()
        self._saved = os.dup(2)
        self._watches = not faulthandler.is_enabled()
        if self._watches:
            faulthandler.enable(self._saved)  # a native crash is told where people see it
        self._buffer = _anonymous_file()
        os.dup2(self._buffer, 2)
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115

    def release(self) -> None:
        """Show what was held back, and what comes from now on at once."""
        self.stop(show=True)

    def stop(self, *, show: bool) -> None:
        """Put stderr back; what was held back is shown or forgotten. Does nothing where nothing is held."""
        if self._saved is None or self._original is None:
            return
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(self._saved, 2)
        sys.stderr = self._original
        os.lseek(self._buffer, 0, os.SEEK_SET)
        with open(self._buffer, encoding="utf-8", errors="replace") as held:  # closes it too
            if show and (text := held.read()):
                with contextlib.suppress(OSError, ValueError):
                    self._original.write(text)
                    self._original.flush()
        if self._watches:
            faulthandler.disable()
        os.close(self._saved)
        self._saved = None

    def terminal(self) -> TextIO | None:
        """The real stderr where it is a terminal (the caller closes it), else None."""
        real = 2 if self._saved is None else self._saved
        if not os.isatty(real):
            return None
        return open(os.dup(real), "w", encoding="utf-8", errors="backslashreplace", buffering=1)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("da3gs-stderr")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
