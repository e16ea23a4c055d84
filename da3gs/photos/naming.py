"""Names of photos: natural order, unique stems, and words that are safe to print."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

_DIGITS = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sorting key in which numbers count as numbers.

    >>> sorted(["img10.jpg", "img9.jpg", "IMG1.jpg"], key=natural_key)
    ['IMG1.jpg', 'img9.jpg', 'img10.jpg']
    """
    pieces = _DIGITS.split(name)
    folded = [(1, int(p), "") if p.isascii() and p.isdigit() else (0, 0, p.casefold()) for p in pieces if p]
    return (*folded, (-1, 0, name))


def folded(name: str) -> str:
    """A name by which two spellings of it are the same: composed Unicode, no case.

    >>> folded("Cafe\u0301.JPG") == folded("caf\u00e9.jpg")
    True
    """
    return unicodedata.normalize("NFC", name).casefold()


def portable(written: str) -> str:
    """A path as written in a file, with slashes, and without what leads nowhere.

    >>> portable(".\\\\images\\\\a.jpg"), portable("./images//./a.jpg")
    ('images/a.jpg', 'images/a.jpg')
    """
    parts = written.replace("\\", "/").split("/")
    return "/".join(p for i, p in enumerate(parts) if p != "." and (p or i == 0))


def unique_stems(names: Iterable[str]) -> list[str]:
    """The file names' stems, numbered where two are the same.

    >>> unique_stems(["a/1.jpg", "b/1.jpg", "1_2.png"])
    ['1', '1_2', '1_2_2']
    """
    taken: set[str] = set()
    stems = []
    for name in names:
        stem = shown(PurePath(name).stem) or "photo"
        candidate, number = stem, 2
        while folded(candidate) in taken:
            candidate, number = f"{stem}_{number}", number + 1
        taken.add(folded(candidate))
        stems.append(candidate)
    return stems


def shown(name: str) -> str:
    """A file name fit for a one-line message: no line breaks, control characters or undecodable bytes, not too long."""
    clean = "".join("?" if unicodedata.category(c).startswith(("C", "Zl", "Zp")) else c for c in name)
    return clean if len(clean) <= 120 else f"{clean[:80]}...{clean[-37:]}"
