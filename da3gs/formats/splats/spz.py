"""Niantic's ``.spz``: quantised splats. Version 4 (ZSTD streams) or 3 (one gzip stream) is written, 1 to 4 are read.

What the axes of a file are is disputed: the format's text says x right, y up, z back (RUB), but splat-transform from
3.0 on, and with it SuperSplat, keep a PLY's axes (RDF). Version 4 is written in RDF with the extension record that
states them, so that both kinds of readers are right; version 3, for older readers, in RUB. On reading a record counts;
without one version 4 is taken as RDF, which is what its writers write, and versions 1 to 3 as RUB.
"""

from __future__ import annotations

import gzip
import io
import logging
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import zstandard

from da3gs._files import atomic_file, open_regular
from da3gs.errors import InputError
from da3gs.formats.axes import ALL_AXES, with_axes
from da3gs.formats.encoding.quantising import (
    HALF_ROOT,
    finite_arrays,
    largest_first,
    log_scales,
    quantised,
    to_gaussians,
    with_largest,
)
from da3gs.formats.records import Format, SplatFile, WriteOptions
from da3gs.gaussians import Gaussians

_log = logging.getLogger(__name__)

DEFAULT_AXES = {3: "RUB", 4: "RDF"}
"""Axes that each version is written in."""

_MAGIC = 0x5053474E
_HEADER = struct.Struct("<IIIBBBB")
_PLAIN_HEADER = struct.Struct("<IIIBBBBI12x")
_ENTRY = struct.Struct("<QQ")
_RECORD = struct.Struct("<III")
_AXES_RECORD = 0xADBE0003
_ANTIALIASED, _EXTENDED, _LEVELS = 1, 2, 0x80
_ZSTD_LEVEL = 5  # 12 takes ten times as long for 2 per cent, most of it on harmonics
_GZIP_LEVEL = 4  # 6 takes five times as long for 3 per cent
_GZIP_START = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, without a time and a name
_STRATEGIES = zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY  # with a search for matches, and without
_SAMPLE = 1 << 16  # bytes
_WORTHLESS = 1.005  # times the size with matches
_MOST_RATIO = 1024  # of a sound file's positions, which have 9 bytes a splat
_MOST_EXTENSIONS = 1 << 20  # bytes
_COLOR = 0.15
_MAGNITUDE = 511
_SHOWN_BANDS = 15  # without the constant one; degree 4 has 24


def save_spz(gaussians: Gaussians, path: Path | str, *, version: int = 4, overwrite: bool = False) -> None:
    """Write ``.spz`` of splats in a PLY's axes. Positions get as many of their 24 bits behind the point as fit.

    Colours, opacities and harmonics have 8 bits, scales 16 steps per factor e, rotations 3 x 10 bits. Harmonics beyond
    [-1, 1) are cut, scales held within e^-10 and e^5.9.

    Raises:
        InputError: a number is not finite, or ``path`` exists and ``overwrite`` is false.
    """
    axes = DEFAULT_AXES[version]
    options = WriteOptions(axes=axes, spz_version=3 if version == 3 else 4)
    data = spz_bytes(with_axes(gaussians, "RDF", axes), Path(path).name, options)
    with atomic_file(Path(path), overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def spz_bytes(gaussians: Gaussians, name: str, options: WriteOptions) -> bytes:
    """The content of a file whose numbers are those of the splats; ``name`` is what messages call it.

    Raises:
        InputError: a number is not finite.
    """
    arrays = finite_arrays(gaussians, name)
    bits = _fraction_bits(arrays["means"])
    streams = (
        _fixed_point(arrays["means"], bits),
        quantised(arrays["opacities"], 255, 0).tobytes(),
        quantised(arrays["harmonics"][:, 0], _COLOR * 255, 127.5).tobytes(),
        quantised(log_scales(arrays["scales"]), 16, 160).tobytes(),
        _rotations(arrays["quaternions"]),
        quantised(arrays["harmonics"][:, 1:], 128, 128).tobytes(),
    )
    flags = _ANTIALIASED if options.antialiased else 0
    about = (len(gaussians), gaussians.degree, bits, flags)
    return _plain(streams, *about, options.axes) if options.spz_version == 4 else _zipped(streams, *about)


def _zipped(streams: tuple[bytes, ...], count: int, degree: int, bits: int, flags: int) -> bytes:
    """Version 3: everything in one gzip stream."""
    header = _HEADER.pack(_MAGIC, 3, count, degree, bits, flags, 0)
    pieces, check, size = [_GZIP_START], 0, 0
    for part in (header, *streams):
        pieces += _deflated(part)
        check, size = zlib.crc32(part, check), size + len(part)
    end = zlib.compressobj(wbits=-zlib.MAX_WBITS).flush()
    return b"".join((*pieces, end, struct.pack("<II", check, size & 0xFFFFFFFF)))


def _deflated(data: bytes) -> list[bytes]:
    """Blocks of a deflate stream that others may follow, without matches where a sample of the data has hardly any.

    Quantised positions, rotations and glossy harmonics are noise to a search for matches, which takes most of the time.
    """
    middle = max(0, len(data) - _SAMPLE) // 2
    sample = data[middle : middle + _SAMPLE]
    matches, none = (sum(map(len, _packed(sample, strategy))) for strategy in _STRATEGIES)
    return _packed(data, _STRATEGIES[none <= _WORTHLESS * matches])


def _packed(data: bytes, strategy: int) -> list[bytes]:
    deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return [deflate.compress(data), deflate.flush(zlib.Z_FULL_FLUSH)]


def _plain(streams: tuple[bytes, ...], count: int, degree: int, bits: int, flags: int, axes: str) -> bytes:
    """Version 4: a plain header, the record of the axes, the sizes, and a ZSTD stream an attribute."""
    streams = streams if degree else streams[:-1]
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=torch.get_num_threads())
    packed = [compressor.compress(stream) for stream in streams]
    record = _RECORD.pack(_AXES_RECORD, 4, 1 + ALL_AXES.index(axes))
    toc = _PLAIN_HEADER.size + len(record)
    header = _PLAIN_HEADER.pack(_MAGIC, 4, count, degree, bits, flags | _EXTENDED, len(streams), toc)
    sizes = [_ENTRY.pack(len(small), len(stream)) for small, stream in zip(packed, streams, strict=True)]
    return b"".join((header, record, *sizes, *packed))


def load_spz(path: Path | str) -> SplatFile:
    """Read version 1, 2, 3 or 4, in the axes of the file; harmonics of degree 4 are left out.

    Raises:
        InputError: the file is missing, cut short, damaged, or of another version.
    """
    path = Path(path)
    with open_regular(path) as file:
        return read_spz(file, path.name)


def read_spz(file: BinaryIO | io.BytesIO, name: str) -> SplatFile:
    """Read an open file, ``name`` being what messages call it.

    Raises:
        InputError: the data are cut short, damaged, or of another version.
    """
    size = file.seek(0, 2)
    file.seek(0)
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    try:
        version, degree, bits, flags, streams, records = (_unzipped if zipped else _streams)(file, size, name)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError, struct.error) as error:
        raise InputError(f"{name} is damaged or cut short: {' '.join(str(error).split())[:100]}") from error
    stated = _stated_axes(records, name)
    if stated:
        reason = "stated by the file"
    elif version == 4:
        reason = ".spz version 4 without a record of its axes is taken as its writers write it, in a PLY's axes"
    else:
        reason = f".spz version {version} is RUB by its specification"
    if degree > 3:
        _log.warning("%s has harmonics of degree %d; those above 3 are left out", name, degree)
    return SplatFile(
        gaussians=_decoded(streams, version, bits),
        axes=stated or DEFAULT_AXES[4 if version == 4 else 3],
        reason=reason,
        stated=bool(stated),
        antialiased=bool(flags & _ANTIALIASED),
    )


_Parts = tuple[int, int, int, int, list[np.ndarray], bytes]
"""Version, degree, fraction bits, flags, rows of each attribute, extension records."""


def _unzipped(file: BinaryIO | io.BytesIO, compressed: int, name: str) -> _Parts:
    """Versions 1 to 3."""
    with gzip.GzipFile(fileobj=file) as stream:
        start = stream.read(_HEADER.size)
        if len(start) < _HEADER.size or int.from_bytes(start[:4], "little") != _MAGIC:
            raise InputError(f"{name} is not an .spz file: its header is another one")
        _, version, count, degree, bits, flags, _ = _HEADER.unpack(start)
        if version not in (1, 2, 3):
            raise InputError(f"{name} is .spz version {version} in a gzip stream; da3gs reads 1, 2 and 3 so")
        widths = _widths(version, degree, bits, name)
        size = count * sum(widths)
        if size > compressed * 1100:  # deflate shrinks to 1/1032 at most
            raise InputError(f"{name} is cut short: {count} splats do not fit in {compressed} bytes")
        data = stream.read(size)
        levels = count * 6 if flags & _LEVELS else 0
        extra = stream.read(levels + _MOST_EXTENSIONS if flags & (_EXTENDED | _LEVELS) else 1)
    if len(data) != size or (extra and not flags & (_EXTENDED | _LEVELS)):
        raise InputError(f"{name} holds {'more' if extra else 'fewer'} bytes than its {count} splats need")
    parts = np.split(np.frombuffer(data, np.uint8), np.cumsum([count * width for width in widths])[:-1])
    rows = [part.reshape(count, width) for part, width in zip(parts, widths, strict=True)]
    return version, degree, bits, flags, rows, extra if flags & _EXTENDED and not flags & _LEVELS else b""


def _streams(file: BinaryIO | io.BytesIO, size: int, name: str) -> _Parts:
    """Version 4."""
    start = file.read(_PLAIN_HEADER.size)
    _, version, count, degree, bits, flags, streams, toc = _PLAIN_HEADER.unpack(start)
    if version != 4:
        raise InputError(f"{name} is .spz version {version}; da3gs reads 1 to 4: export it as one of these")
    widths = _widths(version, degree, bits, name)
    widths = widths if degree else widths[:-1]
    if streams != len(widths) or not _PLAIN_HEADER.size <= toc <= min(size, _PLAIN_HEADER.size + _MOST_EXTENSIONS):
        raise InputError(f"{name} is damaged: {streams} streams from byte {toc} are not what degree {degree} has")
    if count * widths[0] > size * _MOST_RATIO:
        raise InputError(f"{name} is cut short: {count} splats do not fit in {size} bytes")
    records = file.read(toc - _PLAIN_HEADER.size)
    entries = [_ENTRY.unpack(file.read(_ENTRY.size)) for _ in widths]
    rows = []
    for (packed, plain), width in zip(entries, widths, strict=True):
        if plain != count * width or packed > size:
            raise InputError(f"{name} is damaged: a stream of {plain} bytes where {count} splats need {count * width}")
        with zstandard.ZstdDecompressor().stream_reader(file.read(packed)) as reader:
            data = reader.read(plain + 1)
        if len(data) != plain:
            raise InputError(
                f"{name} holds {'more' if len(data) > plain else 'fewer'} bytes than its {count} splats need"
            )
        rows.append(np.frombuffer(data, np.uint8).reshape(count, width))
    if not degree:
        rows.append(np.zeros((count, 0), np.uint8))
    return version, degree, bits, flags, rows, records if flags & _EXTENDED else b""


def _widths(version: int, degree: int, bits: int, name: str) -> list[int]:
    """Bytes a splat of each attribute: positions, opacities, colours, scales, rotations, harmonics."""
    if degree > 4 or bits > 24:
        raise InputError(f"{name} has degree {degree} and {bits} fraction bits; at most 4 and 24 make sense")
    return [6 if version == 1 else 9, 1, 3, 3, 4 if version >= 3 else 3, 3 * ((degree + 1) ** 2 - 1)]


def _stated_axes(records: bytes, name: str) -> str:
    """The axes that the extension records state, empty where none does; records of other kinds are skipped."""
    found, at = "", 0
    while at < len(records):
        kind, length = struct.unpack_from("<II", records, at) if at + 8 <= len(records) else (0, len(records))
        if at + 8 + length > len(records):
            raise InputError(f"{name} is damaged: an extension record reaches beyond its place")
        if kind == _AXES_RECORD:
            number = int.from_bytes(records[at + 8 : at + 8 + length], "little")
            if length != 4 or number > len(ALL_AXES):
                raise InputError(f"{name} states axes number {number}, of which there are {len(ALL_AXES)}")
            found = ALL_AXES[number - 1] if number else ""
        at += 8 + length
    return found


def _decoded(rows: list[np.ndarray], version: int, bits: int) -> Gaussians:
    means, alphas, colors, scales, rotations, rest = rows
    stored = rest.shape[1] // 3
    bands = min(stored, _SHOWN_BANDS)
    harmonics = np.empty((len(means), bands + 1, 3), np.float32)
    harmonics[:, 0] = (colors / np.float32(255) - 0.5) / _COLOR
    harmonics[:, 1:] = (rest.reshape(len(means), stored, 3)[:, :bands].astype(np.float32) - 128) / 128
    half = np.ascontiguousarray(means).view("<f2") if version == 1 else None
    return to_gaussians(
        {
            "means": _from_fixed_point(means, bits) if half is None else half.astype(np.float32),
            "scales": np.exp(scales / np.float32(16) - 10),
            "quaternions": _smallest_three(rotations) if version >= 3 else _first_three(rotations),
            "opacities": alphas[:, 0] / np.float32(255),
            "harmonics": harmonics,
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
    """Versions 1 and 2: x, y, z in a byte each, w from the unit length."""
    xyz = data.astype(np.float32) / np.float32(127.5) - 1
    w = np.sqrt(np.maximum(0, 1 - np.square(xyz).sum(1, keepdims=True)))
    return np.concatenate((w, xyz), 1)


def _advice(options: WriteOptions) -> str:
    """By the table of programs in the documentation."""
    if options.spz_version == 3:
        return "SuperSplat and splat-transform turn .spz version 3 by half a turn, PlayCanvas opens version 4 alone"
    return (
        "Spark does not open .spz version 4 yet, three.js and Babylon.js show it upside down: --spz-version 3 for "
        "Spark and three.js, .glb for Babylon.js"
    )


FORMAT = Format(
    name="spz",
    suffix=".spz",
    begins=lambda start, _: start.startswith((b"\x1f\x8b", b"NGSP")),
    load=load_spz,
    encode=lambda gaussians, name, options: [spz_bytes(gaussians, name, options)],
    axes=lambda options: DEFAULT_AXES[options.spz_version],
    keeps=("antialiased",),
    advice=_advice,
)
"""Niantic's .spz."""
