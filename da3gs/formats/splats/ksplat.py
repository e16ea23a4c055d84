"""``.ksplat`` of mkkellogg's GaussianSplats3D, read only: sections of splats, those of levels 1 and 2 in buckets.

Level 0 holds float32; level 1 positions in 16 bits about the centre of a bucket and half floats; level 2 harmonics in
bytes. Numbers are a PLY's.
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import numpy as np

from da3gs._files import open_regular
from da3gs.errors import InputError
from da3gs.formats.encoding.quantising import to_gaussians
from da3gs.formats.records import Format, SplatFile
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0

_HEADER, _SECTION = 4096, 1024
_COMPONENTS = (0, 9, 24, 45)
_KINDS = (("<f4", "<f4", "<f4"), ("<u2", "<f2", "<f2"), ("<u2", "<f2", "u1"))  # positions, shapes, harmonics
_HALF_RANGE = 1.5  # of harmonics in bytes, where the header names none


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    """The header of a section."""

    count: int
    room: int
    bucket_size: int
    buckets: int
    block: float
    bucket_bytes: int
    scale: int
    full: int
    partial: int
    degree: int

    @staticmethod
    def parsed(data: bytes, at: int) -> _Section:
        """From its bytes."""
        count, room, bucket_size, buckets, block = struct.unpack_from("<IIIIf", data, at)
        (bucket_bytes,) = struct.unpack_from("<H", data, at + 20)
        (scale,) = struct.unpack_from("<I", data, at + 24)
        full, partial, degree = struct.unpack_from("<IIH", data, at + 32)
        return _Section(
            count=count, room=room, bucket_size=bucket_size, buckets=buckets, block=block, bucket_bytes=bucket_bytes,
            scale=scale or 32767, full=full, partial=partial, degree=degree,
        )  # fmt: skip


def load_ksplat(path: Path | str) -> SplatFile:
    """Read a file of any level.

    Raises:
        InputError: it is missing, cut short, damaged, or of another version.
    """
    path = Path(path)
    with open_regular(path) as file:
        data = file.read()
    if len(data) < _HEADER:
        raise InputError(f"{path.name} is cut short: a .ksplat begins with {_HEADER} bytes of header")
    if data[0] != 0 or data[1] < 1:
        raise InputError(f"{path.name} is .ksplat version {data[0]}.{data[1]}; da3gs reads 0.1")
    sections, _, _, count, level = struct.unpack_from("<IIIIH", data, 4)
    if level > 2 or _HEADER + sections * _SECTION > len(data):
        raise InputError(f"{path.name} is damaged: {sections} sections of compression level {level}")
    low, high = struct.unpack_from("<ff", data, 36)
    span = (low or -_HALF_RANGE, high or _HALF_RANGE)
    at, parts = _HEADER + sections * _SECTION, []
    for number in range(sections):
        section = _Section.parsed(data, _HEADER + number * _SECTION)
        part, at = _section(data, at, section, level, span, path.name)
        if section.count:
            parts.append(part)
    found = sum(len(part) for part in parts)
    if found != count or not parts:
        raise InputError(f"{path.name} is damaged: it announces {count} splats and holds {found}")
    return SplatFile(gaussians=Gaussians.concatenated(parts))


def _section(
    data: bytes, at: int, section: _Section, level: int, span: tuple[float, float], name: str
) -> tuple[Gaussians, int]:
    """The splats of the section that begins at a byte, and where the next one begins."""
    if (
        section.degree >= len(_COMPONENTS)
        or section.count > section.room
        or (section.buckets and section.bucket_bytes < 12)
    ):
        raise InputError(f"{name} is damaged: a section of {section.count} splats of degree {section.degree}")
    position, shape, harmonic = _KINDS[level]
    row = np.dtype(
        [("mean", position, 3), ("scale", shape, 3), ("turn", shape, 4), ("color", "u1", 4),
         ("rest", harmonic, _COMPONENTS[section.degree])]
    )  # fmt: skip
    buckets = at + 4 * section.partial
    rows = buckets + section.bucket_bytes * section.buckets
    end = rows + row.itemsize * section.room
    if end > len(data):
        raise InputError(f"{name} is cut short: its sections need {end} bytes, it has {len(data)}")
    stored = np.frombuffer(data, row, section.count, rows)
    means = stored["mean"].astype(np.float32)
    if level:
        partial = np.frombuffer(data, "<u4", section.partial, at)
        raw = np.frombuffer(data, np.uint8, section.bucket_bytes * section.buckets, buckets)
        centers = raw.reshape(section.buckets, -1)[:, :12].copy().view("<f4") if section.buckets else np.zeros((0, 3))
        bucket = _bucket_of(section, partial)
        if len(bucket) < section.count or (section.count and bucket[: section.count].max() >= section.buckets):
            raise InputError(f"{name} is damaged: its {section.buckets} buckets do not hold {section.count} splats")
        means = (means - section.scale) * np.float32(section.block / 2 / section.scale)
        means += centers[bucket[: section.count]]
    return _gaussians(stored, means, span if level == 2 else None), end


def _bucket_of(section: _Section, partial: np.ndarray) -> np.ndarray:
    """The bucket of each splat: full ones first, then those of the sizes given."""
    full = min(section.full * section.bucket_size, section.count)
    rest = section.count - full
    sizes = np.minimum(partial.astype(np.int64), rest)
    first = np.arange(full) // max(section.bucket_size, 1)
    ends = np.cumsum(sizes)
    last = int(np.searchsorted(ends, rest)) + 1  # so many are needed
    return np.concatenate((first, section.full + np.repeat(np.arange(len(sizes[:last])), sizes[:last])))


def _gaussians(stored: np.ndarray, means: np.ndarray, span: tuple[float, float] | None) -> Gaussians:
    rest = stored["rest"].astype(np.float32)
    if span is not None:
        rest = span[0] + rest / np.float32(255) * (span[1] - span[0])
    parts: list[np.ndarray] = [(stored["color"][:, None, :3] / np.float32(255) - 0.5) / C0]
    at = 0
    for width in (3, 5, 7):  # a degree after the other, in it red, green, blue
        if at < rest.shape[1]:
            parts.append(rest[:, at : at + 3 * width].reshape(-1, 3, width).transpose(0, 2, 1))
            at += 3 * width
    turns = stored["turn"].astype(np.float32)
    turns[(turns == 0).all(1)] = [1, 0, 0, 0]
    return to_gaussians(
        {
            "means": means,
            "scales": stored["scale"],
            "quaternions": turns,
            "opacities": stored["color"][:, 3] / np.float32(255),
            "harmonics": np.concatenate(parts, 1),
        }
    )


FORMAT = Format(
    name="ksplat",
    suffix=".ksplat",
    begins=lambda start, name: name.endswith(".ksplat"),
    load=load_ksplat,
)
"""GaussianSplats3D's .ksplat, which has no signature, so that its name counts."""
