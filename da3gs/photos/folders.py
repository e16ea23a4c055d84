"""Photos in a folder, in natural order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from da3gs.errors import InputError
from da3gs.photos.candidates import Candidate, Collection
from da3gs.photos.naming import natural_key, shown, unique_stems
from da3gs.photos.records import Dropped

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif"}
    | {".heic", ".heif", ".hif", ".ppm", ".pgm", ".pnm"}
)
RAW_SUFFIXES = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f", ".raw", ".3fr"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".3gp", ".mpg", ".mpeg", ".wmv", ".flv"}
)
_DEEPEST = 8
_MOST_FILES = 100_000


def photo_files(paths: Sequence[Path]) -> Collection:
    """Photos named one by one; each has to be readable, and one named twice counts once."""
    candidates: list[Candidate] = []
    dropped: list[Dropped] = []
    seen: set[str] = set()
    for path, name in zip(paths, unique_stems(p.name for p in paths), strict=True):
        if path.suffix.lower() in RAW_SUFFIXES:
            raise InputError(f"{shown(path.name)} is a camera's raw file; develop it to JPEG, PNG or TIFF first")
        key = os.path.realpath(path)
        if key in seen:
            dropped.append(Dropped(name=shown(path.name), reason="is named twice"))
            continue
        seen.add(key)
        candidates.append(Candidate(index=len(candidates), name=name, path=path, named=True))
    title = shown(paths[0].name) if len(paths) == 1 else f"{len(paths)} photos"
    return Collection(kind="photos", title=title, candidates=tuple(candidates), dropped=tuple(dropped))


def folder_photos(folder: Path) -> Collection:
    """The photos of a folder; those of its ``images`` folder, or else of all folders in it, where it has none itself.

    Raises:
        InputError: there are none.
    """
    files, dropped = photos_under(folder)
    if not files:
        hint = f"; {dropped[0].name} {dropped[0].reason}" if dropped else ""
        raise InputError(f"the folder {shown(folder.name or str(folder))} holds no photos{hint}; name one that does")
    stems = unique_stems(str(f.relative_to(folder)) for f in files)
    candidates = tuple(Candidate(index=i, name=stems[i], path=f) for i, f in enumerate(files))
    return Collection(kind="folder", title=shown(folder.name), candidates=candidates, dropped=tuple(dropped))


def has_own_photos(folder: Path) -> bool:
    """Whether a folder holds photos itself, not only in folders below it."""
    return bool(_photos_in(folder, folder)[0])


def photos_under(folder: Path) -> tuple[list[Path], list[Dropped]]:
    """Files that look like photos, in natural order, and those that were passed over with the reason."""
    files, dropped = _photos_in(folder, folder)
    if files:
        return files, dropped
    below = folder / "images"
    if below.is_dir() and not below.is_symlink():
        files, more = _photos_in(below, folder)
        dropped += more
    if files:
        return files, dropped
    for number, (place, folders, names) in enumerate(os.walk(folder)):
        folders[:] = sorted((f for f in folders if not _hidden(f)), key=natural_key)
        if len(Path(place).relative_to(folder).parts) >= _DEEPEST:
            folders.clear()
        if number > _MOST_FILES or len(names) > _MOST_FILES:
            raise InputError(
                f"the folder {shown(folder.name)} holds too many files to look through; name a smaller one"
            )
        if Path(place) not in (folder, below):
            more_files, more = _photos_in(Path(place), folder)
            files += more_files
            dropped += more
    return sorted(files, key=lambda f: natural_key(str(f.relative_to(folder)))), dropped


def _photos_in(folder: Path, root: Path) -> tuple[list[Path], list[Dropped]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: natural_key(e.name))
    except OSError as error:
        raise InputError(f"the folder {shown(folder.name)} cannot be read ({error.strerror})") from error
    if len(entries) > _MOST_FILES:
        raise InputError(f"the folder {shown(folder.name)} holds {len(entries)} files; name one with fewer")
    files, dropped = [], []
    for entry in entries:
        path, suffix = Path(entry.path), Path(entry.name).suffix.lower()
        if _hidden(entry.name) or entry.is_dir(follow_symlinks=True):
            continue
        reason = None
        if suffix in RAW_SUFFIXES:
            reason = "is a camera's raw file; develop it to JPEG, PNG or TIFF first"
        elif suffix in VIDEO_SUFFIXES:
            reason = "is a video (give it alone)"
        elif suffix not in PHOTO_SUFFIXES:
            continue
        elif entry.is_symlink() and not stays_inside(path, root):
            reason = "is a link that leads out of the folder"
        if reason is None:
            files.append(path)
        else:
            dropped.append(Dropped(name=shown(entry.name), reason=reason))
    return files, dropped


def stays_inside(path: Path, root: Path) -> bool:
    """Whether a path, with all symbolic links resolved, lies in ``root``."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
