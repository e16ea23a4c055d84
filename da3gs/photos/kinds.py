"""Kinds of input, told by content."""

from __future__ import annotations

import dataclasses
import functools
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from da3gs._progress import Progress
from da3gs.errors import InputError
from da3gs.formats.media.video import CONTAINER_WORDS, HEAD_BYTES, container_of
from da3gs.photos.archives import unpacked
from da3gs.photos.candidates import Candidate, Collection, Panoramas
from da3gs.photos.clips import video_photos
from da3gs.photos.datasets.posed import transforms_photos
from da3gs.photos.folders.finder import found_in
from da3gs.photos.folders.survey import RAW_SPHERES, RAW_SUFFIXES, SPHERE, VIDEO_SUFFIXES
from da3gs.photos.naming import shown, unique_stems
from da3gs.photos.records import Dropped


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """What every reader may need to know."""

    views: int | None
    fps: float | None
    progress: Progress
    split: str | None = None
    panoramas: Panoramas = "auto"


def collected(
    paths: Sequence[Path],
    *,
    views: int | None,
    fps: float | None,
    progress: Progress,
    split: str | None = None,
    panoramas: Panoramas = "auto",
) -> Collection:
    """The photos that the input offers.

    Args:
        paths: photos, or one input of any other kind.
        views: at most so many frames of a video.
        fps: frames a second of a video.
        progress: told about what takes long.
        split: which of NeRF-synthetic's files to take: ``train``, ``val``, ``test`` or ``all``.
        panoramas: whether a video twice as wide as high is one of 360 degrees.

    Raises:
        InputError: there is no such input, or it holds nothing to use.
    """
    if not paths:
        raise InputError(
            "no input was given; name photos, a folder, a zip, a video, a transforms.json or a COLMAP model"
        )
    for path in paths:
        _check_there(path)
    if len(paths) == 1:
        return _one(paths[0], _Request(views=views, fps=fps, progress=progress, split=split, panoramas=panoramas))
    for path in paths:
        if path.is_dir():
            raise InputError(
                f"{shown(path.name)} is a folder among {len(paths)} inputs; give one folder, or photos only"
            )
        if (kind := _file_kind(path)) != "photo":
            raise InputError(f"{shown(path.name)} is a {kind} among {len(paths)} inputs; give it alone")
    return photo_files(paths)


def _check_there(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(str(path))} does not exist; check the path") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{shown(path.name)} is neither a file nor a folder (a pipe or a device); save it to a file")


def _one(path: Path, request: _Request) -> Collection:
    if path.is_dir():
        return _folder(path, request)
    if request.split is not None and _file_kind(path) != "zip file":
        raise InputError(f"--split is for a folder or a zip with transforms_*.json; {shown(path.name)} is neither")
    match _file_kind(path):
        case "zip file":
            return _zip(path, request)
        case "video":
            return _video(path, request)
        case "JSON file":
            return transforms_photos(path)
        case _:
            return photo_files([path])


def _file_kind(path: Path) -> str:
    """What a regular file is, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{shown(path.name)} cannot be opened ({error.strerror}); check its permissions") from error
    suffix = path.suffix.lower()
    if head[:4] in (b"PK\3\4", b"PK\5\6", b"PK\7\x08") or suffix == ".zip":
        return "zip file"
    if container_of(head) is not None:
        return "video"
    if suffix == ".json" or head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return "JSON file"
    if suffix in VIDEO_SUFFIXES:
        raise InputError(
            f"{shown(path.name)} is not a video that da3gs reads; give {CONTAINER_WORDS} (told by content)"
        )
    return "photo"


def _zip(path: Path, request: _Request) -> Collection:
    place, dropped = unpacked(path, progress=request.progress)
    name = shown(path.name)
    try:
        collection = _folder(place.folder, request)
    except InputError as error:
        place.delete()
        words = str(error).replace(f"the folder {place.folder.name}", "it").replace(place.folder.name, name)
        hint = f"; {dropped[0].name} {dropped[0].reason}" if dropped else ""
        raise InputError(f"{name}: {words}{hint}") from error
    except BaseException:
        place.delete()
        raise
    return dataclasses.replace(
        collection,
        kind="zip" if collection.kind == "folder" else collection.kind,
        title=name,
        dropped=(*dropped, *collection.dropped),
        holder=place,
    )


def _folder(folder: Path, request: _Request) -> Collection:
    return found_in(folder, split=request.split, video=functools.partial(_video, request=request))


def _video(path: Path, request: _Request) -> Collection:
    return video_photos(
        path, views=request.views, fps=request.fps, progress=request.progress, panoramas=request.panoramas
    )


def photo_files(paths: Sequence[Path]) -> Collection:
    """Photos named one by one; each has to be readable, and one named twice counts once."""
    candidates: list[Candidate] = []
    dropped: list[Dropped] = []
    seen: set[str] = set()
    for path, name in zip(paths, unique_stems(p.name for p in paths), strict=True):
        if path.suffix.lower() in RAW_SUFFIXES:
            raise InputError(f"{shown(path.name)} is a camera's raw file; develop it to JPEG, PNG or TIFF first")
        if path.suffix.lower() in RAW_SPHERES:
            raise InputError(f"{shown(path.name)} {SPHERE}")
        key = os.path.realpath(path)
        if key in seen:
            dropped.append(Dropped(name=shown(path.name), reason="is named twice"))
            continue
        seen.add(key)
        candidates.append(Candidate(index=len(candidates), name=name, path=path, named=True))
    title = shown(paths[0].name) if len(paths) == 1 else f"{len(paths)} photos"
    return Collection(kind="photos", title=title, candidates=tuple(candidates), dropped=tuple(dropped))
