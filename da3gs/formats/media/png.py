"""PNG chunks: what they say of colours and orientation, and whether their checksums hold."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator

from da3gs._files import OpenBytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STORED = frozenset({b"IHDR", b"cICP", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"eXIf"})
_MOST_CHUNKS = 1_000_000
_LARGEST_STORED = 16 << 20
_PIECE = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PngFacts:
    """Facts in the chunks outside the pixels."""

    depth: int
    """Bits a sample."""
    has_colors: bool
    """Whether pixels are red, green and blue (not grey, no palette)."""
    cicp: tuple[int, int] | None
    """Primaries and transfer (ITU-T H.273)."""
    gamma: float | None
    """Of the encoding, 0.45455 for sRGB's; None where something else says more, or nothing does."""
    chromaticities: tuple[float, ...] | None
    """x and y of red, green and blue, beside ``gamma``."""
    exif: bytes | None
    """As in other containers."""


def png_facts(file: OpenBytes) -> PngFacts:
    """Read the chunks' heads, jumping over the pixels."""
    found: dict[bytes, bytes] = {}
    for kind, length in _chunks(file):
        if kind in _STORED and kind not in found and length <= _LARGEST_STORED:
            found[kind] = file.read(length) if kind != b"iCCP" else b"profile"
    header, cicp = found.get(b"IHDR", b"").ljust(13, b"\0"), found.get(b"cICP", b"")
    gamma, white = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    told = any(kind in found for kind in (b"cICP", b"iCCP", b"sRGB"))
    numbers = tuple(int.from_bytes(white[i : i + 4], "big") / 1e5 for i in range(8, 32, 4))
    return PngFacts(
        depth=header[8],
        has_colors=header[9] in (2, 6),
        cicp=(cicp[0], cicp[1]) if len(cicp) >= 2 else None,
        gamma=None if told or len(gamma) < 4 else int.from_bytes(gamma[:4], "big") / 1e5,
        chromaticities=None if told or len(white) < 32 else numbers,
        exif=found.get(b"eXIf"),
    )


def broken_chunk(file: OpenBytes) -> str | None:
    """The kind of the first chunk the picture needs whose checksum is wrong; None where all hold."""
    for kind, length in _chunks(file):
        if kind[:1].islower():  # what a reader may ignore
            continue
        checksum = zlib.crc32(kind)
        while length > 0 and (piece := file.read(min(_PIECE, length))):
            checksum, length = zlib.crc32(piece, checksum), length - len(piece)
        stored = file.read(4)
        if length == 0 and len(stored) == 4 and int.from_bytes(stored, "big") != checksum:
            return kind.decode("ascii", "replace")
    return None


def _chunks(file: OpenBytes) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk, the file standing at its content; stops at the end or where it is cut."""
    at = file.seek(0)
    if file.read(8) != SIGNATURE:
        return
    at += 8
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        yield kind, length
        if kind == b"IEND":
            return
        at += 12 + length
