"""Roles of pictures in a folder: what is a photo, and what was made of one (depth, normals, masks, thumbnails).

Names say it: a folder called ``depth``, a file called ``r_0_depth_0001.png`` beside ``r_0.png``. They count only where
other pictures are left as photos: a folder that holds nothing but ``masks/`` is a folder of photos.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from da3gs.photos.folders.survey import PHOTO_SUFFIXES, Found
from da3gs.photos.naming import folded

DEPTH = "is a depth map"
_MADE = {
    DEPTH: r"(mono|rendered|aligned|gt|lidar|sensor|raw|filtered)?[_\- ]?depths?([_\- ]?(maps?|images?|raw"
    r"|vis|viz|colou?r(ed)?|png|exr|16|gt|meters|mm|anything|completed|upscaled|\d+))?|disparit(y|ies)|disp",
    "is a normal map": r"(mono|rendered|gt)?[_\- ]?normals?([_\- ]?(maps?|images?|vis|png|gt|\d+))?",
    "is a mask (--masks takes a folder of them)": r"(sky|object|fore?ground|dynamic|person|image|camera|sam\d?|human)?"
    r"[_\- ]?masks?([_\- ]?(images?|png|sam\d?|\d+))?",
    "is a silhouette": r"matte?s?|alphas?|silhouettes?|rembg",
    "is a segmentation": r"seg(mentation|mented|mentations|s)?|semantics?|instances?|panoptic|labels?",
    "is a confidence map": r"conf(idence)?s?([_\- ]?maps?)?|uncertainty",
    "is optical flow": r"(optical[_\- ]?)?flows?",
}
"""What a word in a name makes of a picture."""
_FOLDERS = {reason: re.compile(words) for reason, words in _MADE.items()}
_AFTER = {reason: re.compile(rf"(?P<base>.+?)[._\- ]({words})([._\- ]?\d+)?") for reason, words in _MADE.items()}
_BEFORE = {reason: re.compile(rf"({words})[._\- ]?(?P<base>\d.*)") for reason, words in _MADE.items()}

CHANGED = "is a changed copy of a photo beside it"
_CHANGED = re.compile(
    r"(?P<base>.+?)[._\- ](masked|no[_\- ]?bg|(bg|background)[_\- ]?removed|cut[_\- ]?out|annotated|overlaid|overlay|"
    r"key[_\- ]?points|matches|rendered|rendering|pred(icted)?|undistorted|edited|bearbeitet|modifi[eé])([._\- ]?\d+)?"
)
"""What people and programs add to the name of a photo that they changed; it counts where that photo lies beside it."""

_WEAK = ("is a silhouette", "is a segmentation", "is optical flow")
"""What a folder's name says only where its files are called like photos in another."""
THUMBNAIL = "is a thumbnail"
PREVIEW = "is a preview"
_SMALL = re.compile(r"(.*[._\- ])?thumb(nail)?s?([._\- ].*)?|tn_.+|synophoto_thumb.*")
_SHEET = re.compile(r"preview|contact[_\- ]?sheet|montage|poster")
_VERSIONS = (
    "corrected_images",
    "images_undistorted",
    "undistorted",
    "images",
    "input",
    "images_raw",
    "raw",
    "original",
)
"""Folders that hold the same photos in several versions, the one to take first."""
VERSION = "is another version of a photo in"
_SMALLER = re.compile(r"images_(\d+)")


def made_pictures(pictures: Sequence[Found]) -> dict[str, str]:
    """Roles of pictures, by name, of those that are no photos; empty where no photo would be left."""
    found: dict[str, str] = {}
    bases = _bases(pictures)
    named = {picture.name: _by_folder(picture) for picture in pictures}
    photos = {_stem(picture.name) for picture in pictures if named[picture.name] is None}
    for picture in pictures:
        by_folder = named[picture.name]
        if by_folder in _WEAK and not {_stem(picture.name), _stem(_stem(picture.name))} & photos:
            by_folder = None
        reason = by_folder or _by_stem(picture, bases) or _by_preview(picture, len(pictures))
        if reason is not None:
            found[picture.name] = reason
    return found if len(found) < len(pictures) else {}


def are_made(pictures: Sequence[Found]) -> bool:
    """Whether the names of all pictures say that they are no photos."""
    return all(is_called_thumbnail(p.name) or _by_folder(p) or _SHEET.fullmatch(_stem(p.name)) for p in pictures)


def is_called_thumbnail(name: str) -> bool:
    """Whether a file's name says that it is small; only its size beside others can prove it."""
    return _SMALL.fullmatch(folded(PurePosixPath(name).stem)) is not None


def other_versions(pictures: Sequence[Found]) -> dict[str, str]:
    """Pictures that lie in a folder of other versions of the photos: ``input`` and ``images_4`` beside ``images``.

    Folders count as versions of one another where they lie side by side, have such names, and share most file names.
    """
    groups: dict[str, dict[str, list[Found]]] = defaultdict(lambda: defaultdict(list))
    for picture in pictures:
        parent, _, folder = picture.folder.rpartition("/")
        groups[parent][folder].append(picture)
    found: dict[str, str] = {}
    for folders in groups.values():
        ranked = sorted((rank, name) for name in folders if (rank := _rank(folded(name))) is not None)
        for place, (_, name) in enumerate(ranked):
            stems = {_stem(p.name) for p in folders[name]}
            for rank, better in ranked[:place]:
                if rank >= _FIRST_SMALLER:
                    break
                shared = stems & {_stem(p.name) for p in folders[better]}
                if folders[better][0].name not in found and 2 * len(shared) >= len(stems):
                    found.update({p.name: f"{VERSION} {better}/" for p in folders[name] if _stem(p.name) in shared})
                    break
    return found


def _rank(folder: str) -> int | None:
    """The place of a folder among those of versions; None for any other."""
    if folder in _VERSIONS:
        return _VERSIONS.index(folder)
    smaller = _SMALLER.fullmatch(folder)
    return None if smaller is None else _FIRST_SMALLER + int(smaller[1][:6])


_FIRST_SMALLER = 100


def _stem(name: str) -> str:
    return folded(PurePosixPath(name).stem)


def _by_folder(picture: Found) -> str | None:
    for part in reversed(picture.folder.split("/")):
        for reason, words in _FOLDERS.items():
            if words.fullmatch(folded(part)):
                return reason
    return None


def _bases(pictures: Sequence[Found]) -> dict[str, set[str]]:
    """The stems in each folder, and of names like ``a.color.png`` their beginnings."""
    bases: dict[str, set[str]] = defaultdict(set)
    for picture in pictures:
        stem = _stem(picture.name)
        made = any(words.fullmatch(stem) for table in (_AFTER, _BEFORE) for words in table.values())
        made = made or _CHANGED.fullmatch(stem) is not None
        if not made:
            bases[picture.folder] |= {stem, stem.rpartition(".")[0], re.sub(r"^.*?(?=\d)", "", stem)} - {""}
            bases[picture.folder].add(re.sub(r"[._\- ](rgb|colou?r|image|img)$", "", stem))
    return bases


def _by_stem(picture: Found, bases: dict[str, set[str]]) -> str | None:
    """A picture that is named after a photo beside it."""
    stem = _stem(picture.name)
    inner = PurePosixPath(stem)
    if inner.suffix in PHOTO_SUFFIXES and inner.stem in bases[picture.folder] and stem != inner.stem:
        return "is a mask (--masks takes a folder of them)"  # a.jpg.png beside a.jpg, as COLMAP wants it
    for table in (_AFTER, _BEFORE):
        for reason, words in table.items():
            match = words.fullmatch(stem)
            if match is not None and match["base"] in bases[picture.folder]:
                return reason
    changed = _CHANGED.fullmatch(stem)
    return CHANGED if changed is not None and changed["base"] in bases[picture.folder] else None


def _by_preview(picture: Found, count: int) -> str | None:
    return PREVIEW if count > 2 and _SHEET.fullmatch(_stem(picture.name)) else None
