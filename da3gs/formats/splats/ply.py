"""Splats as standard 3D Gaussian Splatting PLY files: float32 rows, logit opacity, log scale, quaternion wxyz.

Everything is streamed through one small buffer, so that neither reading nor writing needs a second copy of the splats.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float32

from da3gs._files import atomic_file, open_regular
from da3gs.errors import InputError
from da3gs.formats.far_offset import far_offset, nearer
from da3gs.formats.records import Format, SplatFile
from da3gs.formats.splats._ply_columns import Columns, splat_columns
from da3gs.formats.splats._ply_header import PlyElement, PlyHeader, read_header
from da3gs.formats.world_comments import with_comments
from da3gs.gaussians import Gaussians

OPACITY_MARGIN = 1e-6
"""Opacities are held this far from 0 and 1, where the logit is infinite."""

_Kind = type[np.float32] | type[np.float64]
_ROWS = 8192


MIP = "SplatRenderMode: mip"
"""The comment, Brush's, that says that the splats are to be drawn antialiased."""


def save_ply(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False, comments: Sequence[str] = ()) -> None:
    """Write splats as a binary little-endian PLY: x y z nx ny nz f_dc f_rest opacity scale rot, all float32.

    Normals are zero. ``f_rest`` is colour-major (all bands of red, then green, then blue), as every reader expects.
    Opacities are held within 1e-6 of 0 and 1, scales above 1e-38; quaternions are made unit length, wxyz.

    Args:
        gaussians: splats without a batch axis, on any device.
        path: the file; it appears whole or not at all.
        overwrite: replace an existing file.
        comments: lines of text for the header.

    Raises:
        InputError: ``path`` exists and ``overwrite`` is false, or its folder does not exist.
    """
    with atomic_file(Path(path), overwrite=overwrite) as temporary, temporary.open("wb") as file:
        for block in ply_blocks(gaussians, comments):
            file.write(block)


def ply_blocks(gaussians: Gaussians, comments: Sequence[str] = ()) -> Iterator[bytes | memoryview]:
    """Blocks that ``save_ply`` writes; each piece is overwritten by the next."""
    yield header_bytes(len(gaussians), property_names(gaussians.harmonics.shape[-2]), comments)
    for block in _rows(gaussians.detach()):
        yield block.data.cast("B")


def load_ply(path: Path | str) -> Gaussians:
    """Read splats from a PLY with the standard properties, in any order and number type, of any degree 0 to 3.

    Two scales make flat splats, red, green and blue stand in for harmonics. Normals and unknown properties are skipped.
    Values that are not finite come through as they are.

    Raises:
        InputError: the file is missing, cut short, not a PLY, or lacks a property that splats need.
    """
    path = Path(path)
    with open_regular(path) as file:
        return _read(file, path.name)[0]


def load_ply_file(path: Path | str) -> SplatFile:
    """Splats that ``load_ply`` reads, and what the file says of its world.

    Where float32 is too coarse for the positions, as it is for georeferenced ones, an offset is taken off in the
    precision of the file.

    Raises:
        InputError: as for ``load_ply``.
    """
    path = Path(path)
    with open_regular(path) as file:
        gaussians, header, columns = _read(file, path.name)
        read = with_comments(SplatFile(gaussians=gaussians, notes=columns.notes), header.comments)
        exact = None
        if far_offset(gaussians) is not None:
            blocks = _blocks(file, header, _splat_element(header, path.name), ("x", "y", "z"), path.name, np.float64)
            exact = torch.from_numpy(np.concatenate(list(blocks)))
    return nearer(read, exact)


def _read(file: BinaryIO, name: str) -> tuple[Gaussians, PlyHeader, Columns]:
    header = read_header(file, name)
    vertex = _splat_element(header, name)
    columns = splat_columns(header, vertex, property_names(1, normals=False), name)
    blocks = _blocks(file, header, vertex, columns.names, name, np.float32)
    return _gathered(map(columns.completed, blocks), vertex.count, columns.bands), header, columns


def ply_comments(path: Path | str) -> tuple[str, ...]:
    """The comment lines of a PLY header, without the word ``comment``."""
    with open_regular(Path(path)) as file:
        return read_header(file, Path(path).name).comments


def property_names(bands: int, *, normals: bool = True) -> list[str]:
    """The property names of a splat PLY in writing order, for ``bands`` harmonics a colour, K = (degree + 1)²."""
    return [
        *"xyz",
        *(("nx", "ny", "nz") if normals else ()),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(3 * (bands - 1))),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]


def header_bytes(count: int, names: Sequence[str], comments: Sequence[str] = ()) -> bytes:
    """The header of a little-endian file with one vertex element of float32 properties."""
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {' '.join(comment.split())}" for comment in comments]
    lines += [f"element vertex {count}", *(f"property float {name}" for name in names), "end_header"]
    return ("\n".join(lines) + "\n").encode("ascii", "backslashreplace")


def _rows(gaussians: Gaussians) -> Iterator[np.ndarray]:
    """Blocks of finished rows, float32; the buffer is used again, so write each before asking for the next."""
    count, bands = len(gaussians), gaussians.harmonics.shape[-2]
    width = 14 + 3 * bands
    buffer = np.zeros((min(count, _ROWS), width), np.float32)
    for start in range(0, count, _ROWS):
        part = gaussians.map(lambda t, a=start: t[a : a + _ROWS].to("cpu", torch.float32))  # type: ignore[misc]
        block = buffer[: len(part)]
        harmonics = part.harmonics.numpy()
        block[:, 0:3] = part.means
        block[:, 6 : 6 + 3] = harmonics[:, 0]
        for color, columns in enumerate(_rest_columns(9, bands)):
            block[:, columns] = harmonics[:, 1:, color]
        block[:, width - 8] = _logit(part.opacities.numpy())
        block[:, width - 7 : width - 4] = np.log(np.maximum(part.scales.numpy(), np.float32(1e-38)))
        block[:, width - 4 :] = unit_quaternions(part.quaternions.numpy())
        yield block


def _logit(opacities: Float32[np.ndarray, " N"]) -> Float32[np.ndarray, " N"]:
    """Logits of opacities, finite ones; numpy's, since torch gives every little block to threads that wait for more."""
    inside = np.clip(opacities, np.float32(OPACITY_MARGIN), np.float32(1 - OPACITY_MARGIN))
    logits: np.ndarray = np.log(inside / (1 - inside))
    return logits


def _rest_columns(first: int, bands: int) -> list[slice]:
    """Where the harmonics of red, green and blue lie in a row, the constant ones aside."""
    return [slice(first + c * (bands - 1), first + (c + 1) * (bands - 1)) for c in range(3)]


def unit_quaternions(quaternions: Float32[np.ndarray, "N 4"]) -> Float32[np.ndarray, "N 4"]:
    """Quaternions of length 1; one of length 0 becomes the identity."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt(np.einsum("ij,ij->i", quaternions, quaternions))[:, None]
        unit: np.ndarray = quaternions / np.where(length == 0, np.float32(1), length)
    unit[length[:, 0] == 0] = (1, 0, 0, 0)
    return unit


def _splat_element(header: PlyHeader, name: str) -> PlyElement:
    vertex = header.element("vertex")
    if vertex is None:
        found = ", ".join(element.name for element in header.elements) or "none"
        raise InputError(f"{name} is not a Gaussian splat: it has no vertex element (elements: {found[:80]})")
    if header.element("chunk") is not None:
        raise InputError(f"{name} is a compressed PLY; open it with load_gaussians")
    if vertex.has_lists:
        raise InputError(f"{name} is not a Gaussian splat: its vertices hold lists")
    return vertex


def _blocks(
    file: BinaryIO, header: PlyHeader, vertex: PlyElement, names: Sequence[str], name: str, kind: _Kind
) -> Iterator[np.ndarray]:
    """Blocks [rows, len(names)] of properties as numbers of one type."""
    if header.format == "ascii" or any(e.has_lists for e in header.elements[: header.elements.index(vertex)]):
        return _slow_blocks(file, header, names, name, kind)
    return _fast_blocks(file, header, vertex, names, name, kind)


def _fast_blocks(
    file: BinaryIO, header: PlyHeader, vertex: PlyElement, names: Sequence[str], name: str, kind: _Kind
) -> Iterator[np.ndarray]:
    """Of a binary file, whose length is checked at once."""
    before = header.elements[: header.elements.index(vertex)]
    start = header.size + sum(e.count * e.dtype(header.order).itemsize for e in before)
    size = file.seek(0, 2)
    end = start + vertex.count * vertex.dtype(header.order).itemsize
    if size < end:
        raise InputError(f"{name} is cut short: {vertex.count} splats by its header need {end} bytes, it has {size}")
    if size > end and vertex is header.elements[-1]:
        raise InputError(f"{name} has {size - end} bytes more than its header announces ({vertex.count} splats)")
    file.seek(start)
    return _binary_blocks(file, vertex.count, vertex.dtype(header.order), names, name, kind)


def _binary_blocks(
    file: BinaryIO, count: int, dtype: np.dtype, names: Sequence[str], name: str, kind: _Kind
) -> Iterator[np.ndarray]:
    fields = list(dtype.names or ())
    columns = [fields.index(prop) for prop in names]
    plain = kind is np.float32 and all(dtype[field] == np.dtype("<f4") for field in fields)
    for first in range(0, count, _ROWS):
        rows = min(_ROWS, count - first)
        data = file.read(rows * dtype.itemsize)
        if len(data) < rows * dtype.itemsize:
            raise InputError(f"{name} ended while it was being read")
        if plain:
            yield np.frombuffer(data, "<f4").reshape(rows, -1)[:, columns]
        else:
            block = np.frombuffer(data, dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                yield np.stack([block[prop].astype(kind) for prop in names], 1)


def _slow_blocks(
    file: BinaryIO, header: PlyHeader, names: Sequence[str], name: str, kind: _Kind
) -> Iterator[np.ndarray]:
    """One block by way of plyfile: text files, and files with lists before the vertices."""
    size = file.seek(0, 2) - header.size
    for element in header.elements:
        if element.count * max(len(element.properties), 1) > size:  # every value takes a byte at least
            raise InputError(
                f"{name} is cut short: {element.count} rows of {element.name!r} need more than {size} bytes"
            )
    return _plyfile_blocks(file, header.format == "ascii", names, name, kind)


def _plyfile_blocks(file: BinaryIO, text: bool, names: Sequence[str], name: str, kind: _Kind) -> Iterator[np.ndarray]:
    import plyfile

    file.seek(0)
    stream = io.TextIOWrapper(file, "ascii") if text else file
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            vertices = plyfile.PlyData.read(stream, mmap="r")["vertex"]
            yield np.stack([vertices[prop].astype(kind) for prop in names], 1)
    except (plyfile.PlyParseError, ValueError, TypeError, OverflowError, IndexError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{name} cannot be read as a PLY file: {reason}") from error
    finally:
        if isinstance(stream, io.TextIOWrapper):
            stream.detach()  # else it closes the file that the caller closes


def _gathered(blocks: Iterator[np.ndarray], count: int, bands: int) -> Gaussians:
    result = Gaussians(
        means=torch.empty(count, 3),
        scales=torch.empty(count, 3),
        quaternions=torch.empty(count, 4),
        opacities=torch.empty(count),
        harmonics=torch.empty(count, bands, 3),
    )
    # numpy in place of torch, which gives every little block to threads
    means, scales, harmonics = result.means.numpy(), result.scales.numpy(), result.harmonics.numpy()
    quaternions, opacities = result.quaternions.numpy(), result.opacities.numpy()
    start = 0
    for rows in blocks:
        window = slice(start, start + len(rows))
        means[window] = rows[:, 0:3]
        harmonics[window, 0] = rows[:, 3:6]
        for color, columns in enumerate(_rest_columns(6, bands)):
            harmonics[window, 1:, color] = rows[:, columns]
        with np.errstate(over="ignore"):
            opacities[window] = 1 / (1 + np.exp(-rows[:, -8]))
            np.exp(rows[:, -7:-4], out=scales[window])
        quaternions[window] = unit_quaternions(rows[:, -4:])
        start += len(rows)
    return result


def _size(count: int, bands: int, comments: Sequence[str]) -> int:
    return len(header_bytes(count, property_names(bands), comments)) + count * 4 * (14 + 3 * bands)


FORMAT = Format(
    name="ply",
    suffix=".ply",
    begins=lambda start, _: start.startswith(b"ply"),
    load=load_ply_file,
    lossless=True,
    keeps=("antialiased", "up", "unit", "offset"),
    encode=lambda gaussians, _, options: ply_blocks(gaussians, options.comments),
    size=lambda gaussians, _, options: _size(len(gaussians), gaussians.harmonics.shape[-2], options.comments),
)
"""Standard PLY."""
