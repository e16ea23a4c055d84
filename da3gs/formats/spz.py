"""Niantic's ``.spz``, versions 2 and 3: quantised splats in one gzip stream; version 3 is written.

Its axes are x right, y up, z back, a PLY's x right, y down, z forward: y and z are negated on the way in and out,
in the quaternions and harmonics too.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from da3gs._files import atomic_file, open_regular
from da3gs.errors import InputError
from da3gs.formats._quantising import (
    HALF_ROOT,
    finite_arrays,
    largest_first,
    log_scales,
    quantised,
    to_gaussians,
    with_largest,
)
from da3gs.gaussians import Gaussians

_MAGIC = 0x5053474E
_HEADER = struct.Struct("<IIIBBBB")
_COLOR = 0.15
_MAGNITUDE = 511
_FLIP = np.array([1, -1, -1], np.float32)
_FLIP_QUATERNION = np.array([1, 1, -1, -1], np.float32)
_FLIP_HARMONICS = np.array([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], np.float32)
"""Each harmonic's sign when y and z are negated: how often y and z occur in it, together."""


def save_spz(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False) -> None:
    """Write version 3. Positions get as many of their 24 bits behind the point as the farthest splat leaves.

    Colours, opacities and harmonics have 8 bits, scales 16 steps per factor e, rotations 3 x 10 bits. Harmonics beyond
    [-1, 1) are cut, scales held within e^-10 and e^5.9.

    Raises:
        InputError: a number is not finite, or ``path`` exists and ``overwrite`` is false.
    """
    path = Path(path)
    parts = _parts(gaussians, path.name)
    with atomic_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        _write(parts, file)


def spz_bytes(gaussians: Gaussians, name: str) -> bytes:
    """What ``save_spz`` writes; ``name`` is what messages call it.

    Raises:
        InputError: a number is not finite.
    """
    file = io.BytesIO()
    _write(_parts(gaussians, name), file)
    return file.getvalue()


def _parts(gaussians: Gaussians, name: str) -> tuple[bytes, ...]:
    """The file before it is compressed."""
    arrays = finite_arrays(gaussians, name)
    bits = _fraction_bits(arrays["means"])
    header = _HEADER.pack(_MAGIC, 3, len(gaussians), gaussians.degree, bits, 0, 0)
    harmonics = arrays["harmonics"] * _FLIP_HARMONICS[: arrays["harmonics"].shape[1], None]
    return (
        header,
        _fixed_point(arrays["means"] * _FLIP, bits),
        quantised(arrays["opacities"], 255, 0).tobytes(),
        quantised(harmonics[:, 0], _COLOR * 255, 127.5).tobytes(),
        quantised(log_scales(arrays["scales"]), 16, 160).tobytes(),
        _rotations(arrays["quaternions"] * _FLIP_QUATERNION),
        quantised(harmonics[:, 1:], 128, 128).tobytes(),
    )


def _write(parts: tuple[bytes, ...], file: BinaryIO | io.BytesIO) -> None:
    with gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
        for part in parts:
            stream.write(part)


def load_spz(path: Path | str) -> Gaussians:
    """Read version 2 or 3.

    Raises:
        InputError: the file is missing, cut short, damaged, or of another version.
    """
    path = Path(path)
    with open_regular(path) as file:
        return read_spz(file, path.name)


def read_spz(file: BinaryIO | io.BytesIO, name: str) -> Gaussians:
    """Read version 2 or 3 from an open file, ``name`` being what messages call it.

    Raises:
        InputError: the data are cut short, damaged, or of another version.
    """
    compressed = file.seek(0, 2)
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            version, count, degree, bits = _parsed_header(stream.read(_HEADER.size), name)
            bands = (degree + 1) ** 2 - 1
            size = count * (9 + 1 + 3 + 3 + (4 if version == 3 else 3) + 3 * bands)
            if size > compressed * 1100:  # deflate shrinks to 1/1032 at most
                raise InputError(f"{name} is cut short: {count} splats do not fit in {compressed} bytes")
            data = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name} is damaged or cut short: {' '.join(str(error).split())[:100]}") from error
    if len(data) != size:
        raise InputError(f"{name} holds {'more' if len(data) > size else 'fewer'} bytes than its {count} splats need")
    return _decoded(np.frombuffer(data, np.uint8), version, count, bands, bits)


def _parsed_header(data: bytes, name: str) -> tuple[int, int, int, int]:
    if len(data) < _HEADER.size or int.from_bytes(data[:4], "little") != _MAGIC:
        raise InputError(f"{name} is not an .spz file: its header is another one")
    _, version, count, degree, bits, _, _ = _HEADER.unpack(data)
    if version not in (2, 3):
        raise InputError(f"{name} is .spz version {version}; da3gs reads 2 and 3: export it as version 3")
    if degree > 3 or bits > 24:
        raise InputError(f"{name} has degree {degree} and {bits} fraction bits; at most 3 and 24 make sense")
    return version, count, degree, bits


def _decoded(data: np.ndarray, version: int, count: int, bands: int, bits: int) -> Gaussians:
    rotation_bytes = 4 if version == 3 else 3
    lengths = [9, 1, 3, 3, rotation_bytes, 3 * bands]
    ends = np.cumsum([count * length for length in lengths])
    means, alphas, colors, scales, rotations, rest = (
        part.reshape(count, length) for part, length in zip(np.split(data, ends[:-1]), lengths, strict=True)
    )
    harmonics = np.empty((count, bands + 1, 3), np.float32)
    harmonics[:, 0] = (colors / np.float32(255) - 0.5) / _COLOR
    harmonics[:, 1:] = (rest.reshape(count, bands, 3).astype(np.float32) - 128) / 128
    quaternions = _smallest_three(rotations) if version == 3 else _first_three(rotations)
    return to_gaussians(
        {
            "means": _from_fixed_point(means, bits) * _FLIP,
            "scales": np.exp(scales / np.float32(16) - 10),
            "quaternions": quaternions * _FLIP_QUATERNION,
            "opacities": alphas[:, 0] / np.float32(255),
            "harmonics": harmonics * _FLIP_HARMONICS[: bands + 1, None],
        }
    )


def _fraction_bits(means: np.ndarray) -> int:
    """So many bits behind the point that the largest coordinate still fits in front of it; 20 at most."""
    largest = float(np.abs(means).max(initial=0))
    bits = 20
    while bits > 0 and largest * 2**bits > 2**23 - 1:
        bits -= 1
    return bits


def _fixed_point(values: np.ndarray, bits: int) -> bytes:
    whole = np.clip(np.rint(values.astype(np.float64) * 2**bits), -(2**23), 2**23 - 1).astype("<i4")
    return whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()


def _from_fixed_point(data: np.ndarray, bits: int) -> np.ndarray:
    padded = np.zeros((data.size // 3, 4), np.uint8)
    padded[:, 1:] = data.reshape(-1, 3)  # in the upper bytes, so that the shift back keeps the sign
    return ((padded.view("<i4") >> 8).astype(np.float64) / 2**bits).astype(np.float32).reshape(-1, 3)


def _rotations(quaternions: np.ndarray) -> bytes:
    """2 bits for which component (of x, y, z, w) is the largest, then sign and 9 bits of magnitude for the others."""
    largest, others = largest_first(np.roll(quaternions, -1, axis=1))
    packed = largest
    for column in others.T:
        magnitude = np.minimum(np.abs(column) / HALF_ROOT * _MAGNITUDE + 0.5, _MAGNITUDE).astype(np.uint32)
        packed = packed << np.uint32(10) | (column < 0).astype(np.uint32) << np.uint32(9) | magnitude
    return packed.astype("<u4").tobytes()


def _smallest_three(data: np.ndarray) -> np.ndarray:
    packed = np.ascontiguousarray(data).view("<u4")[:, 0]
    shifts = np.array([20, 10, 0], np.uint32)
    fields = packed[:, None] >> shifts
    magnitude = (fields & np.uint32(_MAGNITUDE)).astype(np.float32) * np.float32(HALF_ROOT / _MAGNITUDE)
    others = np.where(fields >> np.uint32(9) & np.uint32(1), -magnitude, magnitude)
    return np.roll(with_largest(packed >> np.uint32(30), others), 1, axis=1)


def _first_three(data: np.ndarray) -> np.ndarray:
    """Version 2: x, y, z in a byte each, w from the unit length."""
    xyz = data.astype(np.float32) / np.float32(127.5) - 1
    w = np.sqrt(np.maximum(0, 1 - np.square(xyz).sum(1, keepdims=True)))
    return np.concatenate((w, xyz), 1)
