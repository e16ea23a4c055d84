"""Niantic's ``.spz``, versions 1 to 4."""

from __future__ import annotations

import dataclasses
import gzip
import io
import math
import struct
from pathlib import Path

import numpy as np
import zstandard

from da3gs.errors import InputError
from da3gs.exports.independent.record import DecodedSplats

_SIDES, _HEIGHTS, _DEPTHS = "LR", "DU", "BF"


def decode(path: Path) -> DecodedSplats:
    """The splats of a file."""
    return decode_stream(path.name, path.read_bytes(), kind=".spz")


def decode_stream(name: str, data: bytes, kind: str) -> DecodedSplats:
    """The splats of the bytes of a file; ``name`` is what messages call it."""
    zipped = data[:2] == b"\x1f\x8b"
    with gzip.open(io.BytesIO(data)) if zipped else io.BytesIO(data) as stream:
        head = stream.read(16 if zipped else 32)
        magic, version, count, degree, bits = struct.unpack_from("<4sIIBB", head)
        if magic != b"NGSP" or version not in ((1, 2, 3) if zipped else (4,)) or degree > 4:
            raise InputError(f"{name} holds no .spz of version 1 to 4, those that check knows")
        widths = (9 if version > 1 else 6, 1, 3, 3, 4 if version > 2 else 3, 3 * degree * (degree + 2))
        if count * sum(widths) > len(data) * 1100:
            raise InputError(f"{name} is cut short: {count} splats do not fit in it")
        fields, number = _zipped(stream, count, widths) if zipped else _plain(stream, head, count, widths)
        if stream.read(1) and not head[14] & 0x82:
            raise InputError(f"{name} holds more than its {count} splats")
    axes, reason = ("RUB", f".spz version {version} is RUB by its specification")
    if version == 4:
        axes, reason = "RDF", ".spz version 4 without a record of its axes is taken in a PLY's axes"
    if number:
        axes, reason = _letters(number), "stated by the file"
    return dataclasses.replace(_decoded(fields, version, bits, kind, axes, reason), antialiased=bool(head[14] & 1))


def _zipped(stream: io.IOBase, count: int, widths: tuple[int, ...]) -> tuple[list[np.ndarray], int]:
    """Each attribute's bytes, and no statement of axes."""
    return [np.frombuffer(stream.read(count * width), np.uint8).reshape(count, width) for width in widths], 0


def _plain(stream: io.IOBase, head: bytes, count: int, widths: tuple[int, ...]) -> tuple[list[np.ndarray], int]:
    """Each attribute's bytes, and the number of the axes that an extension record states, or 0."""
    (contents,) = struct.unpack_from("<I", head, 16)
    records, number = stream.read(contents - 32) if head[14] & 2 else b"", 0
    while records:
        tag, length = struct.unpack_from("<II", records)
        if tag == 0xADBE0003:
            (number,) = struct.unpack_from("<I", records, 8)
        records = records[8 + length :]
    stream.seek(contents)
    lengths = [struct.unpack("<QQ", stream.read(16)) for _ in range(head[15])]
    fields = []
    for width, (packed, _) in zip(widths, [*lengths, (0, 0)], strict=False):
        plain = b""
        if width:
            plain = zstandard.ZstdDecompressor().stream_reader(stream.read(packed)).read(count * width)
        fields.append(np.frombuffer(plain, np.uint8).reshape(count, width))
    return fields, number


def _letters(number: int) -> str:
    """The axes by their number: three bits for the signs, and one for which of the last two axes is vertical."""
    side, height, depth, swapped = (number - 1) & 1, (number - 1) >> 1 & 1, (number - 1) >> 2 & 1, (number - 1) >> 3
    if swapped:
        return _SIDES[side] + "FB"[depth] + _HEIGHTS[height]
    return _SIDES[side] + _HEIGHTS[height] + _DEPTHS[depth]


def _decoded(fields: list[np.ndarray], version: int, bits: int, kind: str, axes: str, reason: str) -> DecodedSplats:
    count = len(fields[0])
    octets = [field.astype(np.int64) for field in fields[:5]]
    if version == 1:
        means = fields[0].copy().view("<f2").astype(np.float64)
    else:
        fixed = octets[0].reshape(count, 3, 3) @ np.array([1, 256, 65536])
        means = np.where(fixed >= 2**23, fixed - 2**24, fixed) / 2.0**bits
    stored = fields[5].shape[1] // 3
    bands = min(15, stored)
    harmonics = np.zeros((count, bands + 1, 3), np.float32)
    harmonics[:, 0] = (octets[2] / 255 - 0.5) / 0.15
    steps = (np.arange(256, dtype=np.float32) - 128) / 128
    harmonics[:, 1:] = steps[fields[5].reshape(count, stored, 3)[:, :bands]]
    return DecodedSplats.of(
        kind,
        harmonics,
        means=means,
        scales=np.exp(octets[3] / 16 - 10),
        quaternions=_rotations(octets[4], version)[:, [3, 0, 1, 2]],
        opacities=octets[1][:, 0] / 255,
        axes=axes,
        reason=reason,
    )


def _rotations(octets: np.ndarray, version: int) -> np.ndarray:
    """Unit quaternions, x y z w."""
    count = len(octets)
    xyzw = np.zeros((count, 4))
    if version < 3:
        xyzw[:, :3] = octets / 127.5 - 1
        xyzw[:, 3] = np.sqrt(np.maximum(0, 1 - (xyzw**2).sum(1)))
        return xyzw
    packed = octets @ np.array([1, 2**8, 2**16, 2**24])
    for component in (3, 2, 1, 0):  # the last one written lies in the lowest bits
        stored = packed >> 30 != component
        top = packed & ~(3 << 30)
        value = (top & 511) / 511 * math.sqrt(0.5) * np.where(top & 512, -1, 1)
        xyzw[stored, component] = value[stored]
        packed = np.where(stored, (packed & (3 << 30)) | (top >> 10), packed)
    largest = octets[:, 3] >> 6
    xyzw[np.arange(count), largest] = np.sqrt(np.maximum(0, 1 - (xyzw**2).sum(1)))
    return xyzw
