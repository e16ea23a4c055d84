"""PlayCanvas' compressed PLY: 16 bytes a splat and a byte a harmonic, in chunks of 256 with bounds of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from da3gs._files import atomic_file, open_regular
from da3gs.errors import InputError
from da3gs.formats.encoding.quantising import (
    HALF_ROOT,
    finite_arrays,
    largest_first,
    log_scales,
    to_gaussians,
    with_largest,
)
from da3gs.formats.records import Format, SplatFile
from da3gs.formats.splats._ply_header import PlyElement, PlyHeader, read_header
from da3gs.formats.splats.ply import ply_comments
from da3gs.formats.world_comments import with_comments
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0

_CHUNK = 256
_BOUNDS = tuple(
    f"{end}_{name}"
    for names in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for name in names
)
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_SPREAD = 20.0  # logarithms of scales are held within this


def save_compressed_ply(
    gaussians: Gaussians, path: Path | str, *, overwrite: bool = False, comments: Sequence[str] = ()
) -> None:
    """Write a compressed PLY. The splats are put in Morton order, so that each chunk spans little.

    Positions and log scales have 11, 10 and 11 bits between the chunk's bounds, rotations 3 x 10, colour and opacity 8;
    harmonics lie within ±4 in steps of 1/32.

    Raises:
        InputError: a number is not finite, or ``path`` exists and ``overwrite`` is false.
    """
    path = Path(path)
    data = compressed_ply_bytes(gaussians, path.name, comments)
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def compressed_ply_bytes(gaussians: Gaussians, name: str, comments: Sequence[str] = ()) -> bytes:
    """Bytes that ``save_compressed_ply`` writes; ``name`` is what messages call it.

    Raises:
        InputError: a number is not finite.
    """
    arrays = finite_arrays(gaussians, name)
    order = morton_order(arrays["means"])
    arrays = {name: array[order] for name, array in arrays.items()}
    logs = np.clip(log_scales(arrays["scales"]), -_SPREAD, _SPREAD)
    colors = arrays["harmonics"][:, 0] * np.float32(C0) + np.float32(0.5)
    bounds, units = zip(*(_normalised(values) for values in (arrays["means"], logs, colors)), strict=True)
    vertices = np.empty((len(order), 4), "<u4")
    vertices[:, 0] = _packed(units[0], (11, 10, 11))
    vertices[:, 1] = _packed_rotations(arrays["quaternions"])
    vertices[:, 2] = _packed(units[1], (11, 10, 11))
    vertices[:, 3] = _packed(np.concatenate((units[2], arrays["opacities"][:, None]), 1), (8, 8, 8, 8))
    bands = arrays["harmonics"].shape[1] - 1
    rest = arrays["harmonics"][:, 1:].transpose(0, 2, 1).reshape(len(order), 3 * bands)
    return b"".join(
        (
            _header(len(order), len(bounds[0]), rest.shape[1], comments),
            np.concatenate(bounds, 1).astype("<f4").tobytes(),
            vertices.tobytes(),
            np.clip((rest / 8 + 0.5) * 256, 0, 255).astype(np.uint8).tobytes(),
        )
    )


def _size(gaussians: Gaussians, name: str, comments: Sequence[str]) -> int:
    finite_arrays(gaussians, name)
    count, bands = len(gaussians), gaussians.harmonics.shape[-2]
    chunks, rest = -(-count // _CHUNK), 3 * (bands - 1)
    return len(_header(count, chunks, rest, comments)) + chunks * 4 * len(_BOUNDS) + count * (16 + rest)


def load_compressed_ply(path: Path | str) -> Gaussians:
    """Read a compressed PLY; also older ones, whose chunks have no bounds of colours.

    Raises:
        InputError: the file is missing, cut short, or not of this kind.
    """
    path = Path(path)
    with open_regular(path) as file:
        header = read_header(file, path.name)
        chunk, vertex, rest = _checked_elements(header, path.name)
        expected = header.size + sum(e.count * e.dtype("<").itemsize for e in header.elements)
        size = file.seek(0, 2)
        if size != expected:
            word = "cut short" if size < expected else "longer than it should be"
            raise InputError(f"{path.name} is {word}: its header announces {expected} bytes, it has {size}")
        file.seek(header.size)
        data = {
            e.name: np.frombuffer(file.read(e.count * e.dtype("<").itemsize), e.dtype("<")) for e in header.elements
        }
    with np.errstate(over="ignore", invalid="ignore"):  # bounds may be anything
        return _decoded(data[chunk.name], data[vertex.name], None if rest is None else data[rest.name])


def _decoded(chunks: np.ndarray, vertices: np.ndarray, rest: np.ndarray | None) -> Gaussians:
    names = [] if rest is None else [f"f_rest_{i}" for i in range(len(rest.dtype.names or ()))]
    count = len(vertices)
    harmonics = np.zeros((count, 1 + len(names) // 3, 3), np.float32)
    color = _unpacked(vertices["packed_color"], (8, 8, 8, 8))
    harmonics[:, 0] = (_spread(chunks, ("r", "g", "b"), color[:, :3]) - 0.5) / C0
    if rest is not None:
        values = np.stack([rest[name] for name in names], 1).astype(np.float32)
        harmonics[:, 1:] = ((values - 127.5) / 32).reshape(count, 3, len(names) // 3).transpose(0, 2, 1)
    logs = _spread(chunks, ("scale_x", "scale_y", "scale_z"), _unpacked(vertices["packed_scale"], (11, 10, 11)))
    return to_gaussians(
        {
            "means": _spread(chunks, ("x", "y", "z"), _unpacked(vertices["packed_position"], (11, 10, 11))),
            "scales": np.exp(logs),
            "quaternions": _unpacked_rotations(vertices["packed_rotation"]),
            "opacities": color[:, 3],
            "harmonics": harmonics,
        }
    )


def morton_order(means: np.ndarray) -> np.ndarray:
    """Indices that sort points along a Z-curve through their bounding box, 10 bits an axis."""
    if not len(means):
        return np.zeros(0, np.int64)
    low, high = means.min(0), means.max(0)
    cells = ((means - low) / np.maximum(high - low, 1e-30) * 1023).astype(np.uint32)
    code = np.zeros(len(means), np.uint32)
    for axis in range(3):
        bits = cells[:, axis]
        for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
            bits = (bits | bits << np.uint32(shift)) & np.uint32(mask)
        code |= bits << np.uint32(axis)
    return code.argsort(kind="stable")


def _normalised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of every chunk, minima then maxima, and the values between them as numbers from 0 to 1."""
    count = len(values)
    padded = np.pad(values, ((0, -count % _CHUNK), (0, 0)), mode="edge") if count else values
    chunks = padded.reshape(-1, _CHUNK, values.shape[1])
    low, high = chunks.min(1), chunks.max(1)
    width = np.where(high - low < 1e-5, np.inf, high - low)[:, None]
    units = ((chunks - low[:, None]) / width).reshape(-1, values.shape[1])[:count]
    return np.concatenate((low, high), 1), units


def _packed(units: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Numbers from 0 to 1 side by side in 32 bits, the first one uppermost."""
    packed = np.zeros(len(units), np.uint32)
    for column, width in zip(units.T, bits, strict=True):
        top = (1 << width) - 1
        packed = packed << np.uint32(width) | np.clip(np.floor(column * top + 0.5), 0, top).astype(np.uint32)
    return packed


def _unpacked(packed: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    units = np.empty((len(packed), len(bits)), np.float32)
    shift = sum(bits)
    for column, width in enumerate(bits):
        shift -= width
        units[:, column] = (packed >> np.uint32(shift) & np.uint32((1 << width) - 1)) / np.float32((1 << width) - 1)
    return units


def _packed_rotations(quaternions: np.ndarray) -> np.ndarray:
    largest, others = largest_first(quaternions)
    return largest << np.uint32(30) | _packed(others * HALF_ROOT + 0.5, (10, 10, 10))


def _unpacked_rotations(packed: np.ndarray) -> np.ndarray:
    others = (_unpacked(packed & np.uint32((1 << 30) - 1), (10, 10, 10)) - 0.5) / HALF_ROOT
    return with_largest(packed >> np.uint32(30), others)


def _spread(chunks: np.ndarray, names: tuple[str, ...], units: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1 spread between the bounds of their chunks."""
    if f"min_{names[0]}" not in (chunks.dtype.names or ()):
        return units
    index = np.arange(len(units)) // _CHUNK
    low = np.stack([chunks[f"min_{name}"] for name in names], 1)[index]
    high = np.stack([chunks[f"max_{name}"] for name in names], 1)[index]
    spread: np.ndarray = low + units * (high - low)
    return spread


def _header(count: int, chunks: int, rest: int, comments: Sequence[str]) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {' '.join(comment.split())}" for comment in comments]
    lines += [f"element chunk {chunks}", *(f"property float {name}" for name in _BOUNDS)]
    lines += [f"element vertex {count}", *(f"property uint {name}" for name in _PACKED)]
    if rest:
        lines += [f"element sh {count}", *(f"property uchar f_rest_{i}" for i in range(rest))]
    return ("\n".join([*lines, "end_header"]) + "\n").encode("ascii", "backslashreplace")


def _checked_elements(header: PlyHeader, name: str) -> tuple[PlyElement, PlyElement, PlyElement | None]:
    """The elements chunk, vertex and sh, their properties as expected.

    Raises:
        InputError: something is missing, or of another type or number.
    """
    chunk, vertex, rest = (header.element(word) for word in ("chunk", "vertex", "sh"))
    if header.format != "binary_little_endian" or chunk is None or vertex is None:
        raise InputError(f"{name} is not a compressed PLY: it needs binary elements chunk and vertex")
    bounds = set(_BOUNDS if ("min_r", "f4") in chunk.properties else _BOUNDS[:12])
    if not {(b, "f4") for b in bounds} <= set(chunk.properties) or not {(p, "u4") for p in _PACKED} <= set(
        vertex.properties
    ):
        raise InputError(f"{name} is not a compressed PLY: its chunks or vertices lack properties")
    if any(element.has_lists for element in header.elements) or chunk.count != -(-vertex.count // _CHUNK):
        raise InputError(f"{name} is damaged: {vertex.count} splats in {chunk.count} chunks of {_CHUNK}")
    if rest is not None:
        wanted = tuple((f"f_rest_{i}", "u1") for i in range(len(rest.properties)))
        if len(wanted) not in (9, 24, 45) or set(rest.properties) != set(wanted) or rest.count != vertex.count:
            raise InputError(f"{name} is damaged: its harmonics do not fit its splats")
    return chunk, vertex, rest


FORMAT = Format(
    name="compressed_ply",
    suffix=".compressed.ply",
    begins=lambda start, _: start.startswith(b"ply") and b"\nelement chunk " in start.partition(b"\nend_header")[0],
    load=lambda path: with_comments(SplatFile(gaussians=load_compressed_ply(path)), ply_comments(path)),
    keeps=("antialiased", "up", "unit", "offset"),
    order=lambda gaussians: torch.from_numpy(morton_order(gaussians.means.numpy())),
    encode=lambda gaussians, name, options: [compressed_ply_bytes(gaussians, name, options.comments)],
    size=lambda gaussians, name, options: _size(gaussians, name, options.comments),
)
"""PlayCanvas' compressed PLY."""
