"""Matching of written names to files: one way for photos, masks, depth maps and models.

A name means the file that is called exactly so; else the one whose name differs only by Windows' separators, by case
or by the Unicode form. What differs by more is no match, but is named in the message.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from da3gs.errors import InputError
from da3gs.photos.folders.survey import PHOTO_SUFFIXES, stays_inside
from da3gs.photos.naming import folded, portable, shown

_MOST_FILES = 100_000


def inside(root: Path, written: str, where: str) -> Path:
    """The file that a path written inside an input means, whether or not it is there.

    Raises:
        InputError: the path is absolute, or leads out of ``root`` once links are resolved.
    """
    if os.path.isabs(written) or written[1:2] == ":" or not stays_inside(root / written, root):
        raise InputError(
            f"{where}: the path {shown(written)!r} leads out of {shown(root.resolve().name)}{_link(root, written)}; "
            "make it relative"
        )
    return root / written


def _link(root: Path, written: str) -> str:
    """The link on the way that leads out, in words."""
    place = root
    for part in PurePosixPath(written).parts:
        place = place / part
        if place.is_symlink() and not stays_inside(place, root):
            return f" by the link {shown(part)} (to {shown(PurePosixPath(os.readlink(place)).name)})"
    return ""


class Files:
    """The files below a folder, by the names that other files give them."""

    def __init__(self, root: Path) -> None:
        """Nothing is looked through until a name does not fit exactly."""
        self.root = root
        self._by_key: dict[str, list[str]] | None = None

    def find(self, written: str, where: str, *, suffixes: Iterable[str] = ()) -> Path | None:
        """The file of this name, or of this name and one of the suffixes; None where there is none.

        Raises:
            InputError: the path leads out, or is a folder or a web address.
        """
        relative = portable(written)
        if "://" in written:
            raise InputError(f"{where}: {shown(written)!r} is a web address; download the file and name it by its path")
        path = inside(self.root, relative, where)
        if os.path.lexists(path) and not path.is_dir():
            return path
        if "\\" in written and os.path.lexists(self.root / written):
            return inside(self.root, written, where)  # a backslash may belong to the name
        for suffix in suffixes:
            if os.path.lexists(f"{path}{suffix}"):
                return inside(self.root, f"{relative}{suffix}", where)
        if path.is_dir():
            raise InputError(f"{where}: {shown(written)!r} is a folder; name a file")
        for suffix in ("", *suffixes):
            names = self._names().get(_key(f"{relative}{suffix}"), [])
            if len(names) > 1:
                listed = " and ".join(shown(n) for n in names[:3])
                raise InputError(f"{where}: {shown(written)!r} may be {listed}; write it exactly")
            if names:
                return inside(self.root, names[0], where)
        return None

    def holds(self, relative: str) -> bool:
        """Whether there is a file of this name, exactly or but for case and Unicode form."""
        return os.path.lexists(self.root / relative) or _key(relative) in self._names()

    def folders_of(self, names: Sequence[str], *, at_most: int = 5) -> list[str]:
        """Folders below which most of some files lie, the best ones first."""
        wanted = {_key(name) for name in names}
        tails = {len(PurePosixPath(name).parts) for name in names}
        counted: Counter[str] = Counter()
        for key, found in self._names().items():
            parts = key.split("/")
            for length in tails:
                if len(parts) >= length and "/".join(parts[-length:]) in wanted:
                    counted["/".join(found[0].split("/")[:-length])] += 1
        return [folder for folder, _ in counted.most_common(at_most)]

    def missing(self, written: str) -> str:
        """Why a photo is not there, with the name that comes nearest."""
        near = self.near(written)
        return "is missing" if near is None else f"is missing ({shown(near)} is there)"

    def near(self, written: str) -> str | None:
        """The path of a picture called alike: in another folder, of another format, with other zeros or separators."""
        wanted = PurePosixPath(portable(written))
        best: tuple[tuple[bool, bool, str], str] | None = None
        for name in (name for names in self._names().values() for name in names):
            path = PurePosixPath(name)
            if path.suffix.lower() not in PHOTO_SUFFIXES or _loose(path.stem) != _loose(wanted.stem):
                continue
            rank = (path.parent != wanted.parent, folded(path.name) != folded(wanted.name), name)
            if best is None or rank < best[0]:
                best = (rank, name)
        return None if best is None else best[1]

    def _names(self) -> dict[str, list[str]]:
        if self._by_key is None:
            found: dict[str, list[str]] = defaultdict(list)
            count = 0
            for place, folders, files in os.walk(self.root):
                folders[:] = sorted(f for f in folders if not f.startswith("."))
                start = os.path.relpath(place, self.root).replace(os.sep, "/")
                for file in sorted(files):
                    name = file if start == "." else f"{start}/{file}"
                    found[_key(name)].append(name)
                count += len(files)
                if count > _MOST_FILES:
                    break
            self._by_key = dict(found)
        return self._by_key


def _loose(stem: str) -> str:
    """A stem without leading zeros of its numbers, separators and case."""
    return re.sub(r"0+(?=\d)", "", re.sub(r"[\W_]+", "", folded(stem)))


def _key(name: str) -> str:
    """By which two spellings of a path are the same."""
    return folded(portable(name))
