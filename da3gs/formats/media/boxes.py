"""Boxes of ISO base media files (MP4, MOV, HEIF, AVIF): what they say beside pictures and sound.

A box is a 32-bit length, a four-letter kind and its content; a length of 1 announces a 64-bit one, 0 the rest of the
file. Only what is needed is read: the movie box or the picture's properties, never the pictures themselves.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from da3gs._files import OpenBytes

_LARGEST = 64 << 20
_MOST_BOXES = 4096


def top_boxes(file: OpenBytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and length of the content of a file's outermost boxes; stops where they make no sense."""
    size = file.seek(0, io.SEEK_END)
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind, skip = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, skip = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = size - at
        if length < skip or at + length > size:
            return
        yield kind, at + skip, length - skip
        at += length


def content_of(file: OpenBytes, wanted: bytes) -> bytes | None:
    """The content of the first outermost box of this kind; None where there is none, or it is larger than 64 MB."""
    for kind, start, length in top_boxes(file):
        if kind == wanted and length <= _LARGEST:
            file.seek(start)
            return file.read(length)
    return None


def boxes_in(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes that a box's content consists of."""
    yield from ((kind, data[start : start + length]) for kind, start, length in top_boxes(io.BytesIO(data)))


def _first(data: bytes, kind: bytes) -> bytes:
    return next((content for found, content in boxes_in(data) if found == kind), b"")


def primary_nclx(file: OpenBytes) -> tuple[int, int] | None:
    """Primaries and transfer (ITU-T H.273) that the main picture of a HEIF or AVIF file is tagged with by numbers."""
    meta = (content_of(file, b"meta") or b"")[4:]
    item = _primary_item(_first(meta, b"pitm"))
    properties = _first(meta, b"iprp")
    colors = [c if kind == b"colr" else b"" for kind, c in boxes_in(_first(properties, b"ipco"))]
    for index in _associated(_first(properties, b"ipma"), item) or range(1, len(colors) + 1):
        content = colors[index - 1] if 0 < index <= len(colors) else b""
        if content[:4] == b"nclx" and len(content) >= 8:
            return int.from_bytes(content[4:6], "big"), int.from_bytes(content[6:8], "big")
    return None


def _primary_item(pitm: bytes) -> int:
    version = pitm[0] if pitm else 0
    return int.from_bytes(pitm[4 : 6 if version == 0 else 8], "big")


def _associated(ipma: bytes, item: int) -> list[int]:
    """The numbers, from 1, of the properties of an item; none where it is not listed."""
    if len(ipma) < 8:
        return []
    wide_item, wide_index = (4 if ipma[0] >= 1 else 2), (2 if ipma[3] & 1 else 1)
    at = 8
    for _ in range(int.from_bytes(ipma[4:8], "big")):
        if at + wide_item >= len(ipma):
            return []
        number, count = int.from_bytes(ipma[at : at + wide_item], "big"), ipma[at + wide_item]
        at += wide_item + 1
        if number == item:
            essential = (1 << (8 * wide_index - 1)) - 1  # the top bit says whether it is
            parts = [ipma[at + wide_index * i :][:wide_index] for i in range(count)]
            return [int.from_bytes(part, "big") & essential for part in parts]
        at += wide_index * count
    return []


def says_spherical(file: OpenBytes) -> bool:
    """Whether a video's movie box calls it equirectangular (Spherical Video V2's ``equi``, or V1's XML)."""
    movie = content_of(file, b"moov") or b""
    if b"sv3d" in movie and b"equi" in movie[movie.index(b"sv3d") :]:
        return True
    return re.search(rb"<GSpherical:ProjectionType>\s*equirectangular", movie) is not None
