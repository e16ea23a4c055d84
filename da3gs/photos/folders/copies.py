"""Copies of photos: the same file twice, the same bytes, the same photo smaller or saved once more.

Bytes are compared only of files of one length, pixels only of photos that differ in size or format, in a small version:
pictures of a burst, which look alike and have the same size, are never taken for copies.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32

from da3gs._files import sha256
from da3gs.photos.candidates import Candidate
from da3gs.photos.decoding.images import Header, read_small
from da3gs.photos.naming import folded, shown
from da3gs.photos.records import Dropped, Unreadable

COPY = "is a copy of another photo"
SMALLER = "is a smaller copy of another photo"
_SIDE = 32
_WORKERS = 4
_LOOK_AT_ALL = 40
"""With more photos only those of like names are compared by their pixels."""
_LEVELS = ((128, 32, 2.5), (64, 16, 2.5), (0, 16, 3.4))
"""From which long side of the smaller photo on, squeezed to how many pixels, two differ by at most how many 8-bit
levels (root mean square) where they are one. Measured: a copy of 160 pixels differs by 0.7 to 1.3, neighbours in a slow
film by 5.5; of 48 pixels by 1.4 to 3.2, neighbours by 3.7."""
_LEAST_TEXTURE = 4.0
_LIKE = re.compile(r"([._\- ]?(\(\d+\)|copy( \d+)?|kopie|edited|small|large|medium|web|resized|scaled|\d+x\d+|@\dx))+$")


def without_copies(
    photos: Sequence[tuple[Candidate, Header]], dropped: list[Dropped]
) -> list[tuple[Candidate, Header]]:
    """The photos without copies of one another, in their order; of a photo the largest version stays.

    Args:
        photos: with their headers; photos with cameras, and those named one by one, are all kept.
        dropped: gets what goes.
    """
    free = [p for p in photos if p[0].cam_to_world is None and p[0].lens is None and not p[0].named]
    goes: dict[int, tuple[str, str]] = {}
    for group in (*_same_bytes(free), *_same_pixels(free, goes)):
        left = [p for p in group if p[0].index not in goes]
        if len(left) < 2:
            continue
        best = min(left, key=_worth)
        for candidate, header in left:
            if candidate.index != best[0].index:
                smaller = _pixels(header) < _pixels(best[1])
                goes[candidate.index] = (SMALLER if smaller else COPY, best[0].place or best[0].path.name)
    for candidate, _ in photos:
        if candidate.index in goes:
            kind, of = goes[candidate.index]
            name = shown(candidate.place or candidate.path.name)
            dropped.append(Dropped(name=name, reason=f"{kind} ({shown(of)})", kind=kind))
    return [p for p in photos if p[0].index not in goes]


def _pixels(header: Header) -> int:
    return header.height * header.width


def _worth(photo: tuple[Candidate, Header]) -> tuple[int, bool, int, int, int, int]:
    """The best version comes first: most pixels, no link, a name that is no copy's, an EXIF, most bytes, the first."""
    candidate, header = photo
    path = candidate.path
    told = -(header.focal is not None)
    return (-_pixels(header), path.is_symlink(), len(path.stem), told, -path.stat().st_size, candidate.index)


def _same_bytes(photos: Sequence[tuple[Candidate, Header]]) -> list[list[tuple[Candidate, Header]]]:
    """Photos that are one file by links, or have the same bytes."""
    by_file: dict[str, list[tuple[Candidate, Header]]] = defaultdict(list)
    by_length: dict[int, set[str]] = defaultdict(set)
    for photo in photos:
        real = os.path.realpath(photo[0].path)
        by_file[real].append(photo)
        by_length[os.path.getsize(real)].add(real)
    by_hash: dict[str, list[tuple[Candidate, Header]]] = defaultdict(list)
    for files in by_length.values():
        for real in files:
            by_hash[sha256(Path(real)) if len(files) > 1 else real] += by_file[real]
    return [group for group in by_hash.values() if len(group) > 1]


def _same_pixels(
    photos: Sequence[tuple[Candidate, Header]], gone: dict[int, tuple[str, str]]
) -> list[list[tuple[Candidate, Header]]]:
    """Photos that look the same, of different sizes or formats."""
    unlike = {(p[0].path.suffix.lower(), p[1].upright_size) for p in photos}
    if len(unlike) < 2:
        return []
    groups: dict[object, list[tuple[Candidate, Header]]] = defaultdict(list)
    for photo in photos:
        like = None if len(photos) <= _LOOK_AT_ALL else _LIKE.sub("", folded(photo[0].path.stem))
        groups[like].append(photo)
    found = []
    for group in groups.values():
        if len({(p[0].path.suffix.lower(), p[1].upright_size) for p in group}) > 1:
            found += _looking_alike([p for p in group if p[0].index not in gone])
    return found


def _looking_alike(photos: Sequence[tuple[Candidate, Header]]) -> list[list[tuple[Candidate, Header]]]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        versions = pool.map(lambda p: _small(p[0].path), photos)
        small = {p[0].index: version for p, version in zip(photos, versions, strict=True)}
    groups: list[list[tuple[Candidate, Header]]] = []
    for photo in sorted(photos, key=_worth):
        for group in groups:
            if _is_version(photo, group[0], small):
                group.append(photo)
                break
        else:
            groups.append([photo])
    return [group for group in groups if len(group) > 1]


def _is_version(
    photo: tuple[Candidate, Header], of: tuple[Candidate, Header], small: dict[int, Float32[np.ndarray, "s s"] | None]
) -> bool:
    a, b = small[photo[0].index], small[of[0].index]
    size, other = photo[1].upright_size, of[1].upright_size
    same_kind = photo[0].path.suffix.lower() == of[0].path.suffix.lower() and size == other
    if a is None or b is None or same_kind or abs(size[0] * other[1] / (size[1] * other[0]) - 1) > 0.02:
        return False
    long_side = min(max(size), max(other))
    side, most = next((side, most) for least, side, most in _LEVELS if long_side >= least)
    a, b = (cv2.resize(version, (side, side), interpolation=cv2.INTER_AREA) for version in (a, b))
    return bool(np.sqrt(np.mean((a - b) ** 2)) < most and b.std() > _LEAST_TEXTURE)


def _small(path: Path) -> Float32[np.ndarray, "s s"] | None:
    """A grey version of a few pixels, upright; None where it cannot be read."""
    try:
        return read_small(path, _SIDE) @ np.array([0.299, 0.587, 0.114], np.float32)
    except Unreadable:
        return None
