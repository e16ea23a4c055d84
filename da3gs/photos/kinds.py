"""What an input is, told by its content."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from da3gs._progress import Progress
from da3gs.errors import InputError
from da3gs.formats.colmap import find_colmap
from da3gs.formats.video import CONTAINER_WORDS, HEAD_BYTES, container_of
from da3gs.photos.archives import unpacked
from da3gs.photos.candidates import Collection
from da3gs.photos.clips import video_photos
from da3gs.photos.folders import VIDEO_SUFFIXES, folder_photos, has_own_photos, photo_files, photos_under, stays_inside
from da3gs.photos.naming import shown
from da3gs.photos.posed import colmap_photos, transforms_photos

_DEEPEST = 3
_MOST_FOLDERS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """What every reader may need to know."""

    views: int | None
    fps: float | None
    progress: Progress


def collected(paths: Sequence[Path], *, views: int | None, fps: float | None, progress: Progress) -> Collection:
    """The photos that the input offers.

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
        return _one(paths[0], _Request(views=views, fps=fps, progress=progress))
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
    match _file_kind(path):
        case "zip file":
            return _zip(path, request)
        case "video":
            return video_photos(path, views=request.views, fps=request.fps, progress=request.progress)
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
        collection = _inside_zip(place.folder, name, request)
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


def _inside_zip(folder: Path, name: str, request: _Request) -> Collection:
    videos = [f for f in sorted(folder.rglob("*")) if f.suffix.lower() in VIDEO_SUFFIXES and f.is_file()]
    if len(videos) == 1 and not photos_under(folder)[0]:
        return video_photos(videos[0], views=request.views, fps=request.fps, progress=request.progress)
    return _folder(folder, request)


def _folder(folder: Path, request: _Request) -> Collection:
    posed = _posed(folder)
    if posed is not None:
        return posed
    plain = has_own_photos(folder) or ((folder / "images").is_dir() and has_own_photos(folder / "images"))
    scenes = [] if plain else _scenes_below(folder)
    if len(scenes) == 1 and (lone := _posed(scenes[0])) is not None:
        return lone
    if len(scenes) > 1:
        names = ", ".join(shown(s.name) for s in scenes[:3])
        raise InputError(f"the folder {shown(folder.name)} holds {len(scenes)} scenes ({names}); name one of them")
    return folder_photos(folder)


def _posed(folder: Path) -> Collection | None:
    """A posed data set in a folder; transforms.json wins over a COLMAP model, since its numbers are the longer ones."""
    for file in (folder / "transforms.json", folder / "nerfstudio" / "transforms.json"):
        if file.is_file():
            if not stays_inside(file, folder):
                raise InputError(
                    f"{shown(folder.name)}/transforms.json is a link that leads out; put the file itself there"
                )
            return transforms_photos(file)
    model = find_colmap(folder)
    return None if model is None else colmap_photos(folder, model)


def _scenes_below(folder: Path, depth: int = 0) -> list[Path]:
    """Folders with posed data sets, some levels down; none inside another."""
    try:
        entries = [e for e in os.scandir(folder) if not e.name.startswith(".") and e.name != "__MACOSX"]
    except OSError:
        return []
    scenes: list[Path] = []
    for place in sorted(e.path for e in entries if e.is_dir(follow_symlinks=False)):
        if _looks_posed(Path(place)):
            scenes.append(Path(place))
        elif depth < _DEEPEST and len(entries) <= _MOST_FOLDERS:
            scenes += _scenes_below(Path(place), depth + 1)
    return scenes


def _looks_posed(folder: Path) -> bool:
    files = (folder / "transforms.json", folder / "nerfstudio" / "transforms.json")
    return any(f.is_file() for f in files) or find_colmap(folder) is not None
