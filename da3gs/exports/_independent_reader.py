"""Reads splat files as other programs do. Shares nothing with ``da3gs.formats``, so that a mistake there shows here."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import html.parser
import io
import json
import math
import re
import stat
import struct
import zlib
from pathlib import Path

import numpy as np
import plyfile

from da3gs.errors import InputError

_CORE = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
         "rot_0", "rot_1", "rot_2", "rot_3")  # fmt: skip

_BROKEN = (ValueError, OSError, EOFError, struct.error, zlib.error, MemoryError, KeyError, IndexError, TypeError)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class StrangeSplats:
    """Splats as a reader of the format understands them, activated, float32."""

    kind: str
    """``.ply`` and so on."""
    means: np.ndarray
    scales: np.ndarray
    quaternions: np.ndarray
    opacities: np.ndarray
    harmonics: np.ndarray
    nonfinite: int
    """How many stored numbers are not finite."""
    axes: str = ""
    """What the file says of its axes, where the format has room for it."""
    points: bool = False
    """Whether the file holds points only: then nothing but the means is there."""


def read_splats(path: Path) -> StrangeSplats:
    """The splats of a file of any kind that is told by its first bytes.

    Raises:
        InputError: the file is missing, broken, or of no kind that is known here.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path.name or path} is not a regular file; name a splat file or a scene folder")
        with path.open("rb") as file:
            start = file.read(4096)
        with np.errstate(all="ignore"):
            if start[:3] == b"ply":
                return _compressed(path) if b"element chunk" in start else _standard(path)
            if start[:2] == b"\x1f\x8b":
                with path.open("rb") as file:
                    return _spz(path.name, file, path.stat().st_size)
            if start.lstrip()[:15].lower() == b"<!doctype html>":
                return _page(path)
            if start[:4] == b"glTF":
                return _points(path)
            if path.suffix.lower() == ".splat" and path.stat().st_size % 32 == 0:
                return _antimatter(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the spelling") from None
    except (plyfile.PlyParseError, *_BROKEN) as error:
        raise InputError(f"{path.name} is broken or cut short: {' '.join(str(error).split())[:120]}") from error
    raise InputError(
        f"{path.name} is not a splat file that check knows (.ply, .compressed.ply, .splat, .spz, .html, .glb)"
    )


def _elements(path: Path) -> dict[str, np.ndarray]:
    """The elements of a PLY file; one whose header promises more rows than the file has bytes is refused first."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1 << 20)
    text = re.search(rb"^format ascii", head, re.M) is not None
    if text and any(int(count) > size for count in re.findall(rb"^element \S+ (\d{1,18})\s*$", head, re.M)):
        raise InputError(f"{path.name} is cut short: its header announces more rows than it has bytes")
    with path.open("r", encoding="ascii") if text else path.open("rb") as stream:
        return {element.name: element.data for element in plyfile.PlyData.read(stream, mmap="r")}


def _standard(path: Path) -> StrangeSplats:
    rows = _elements(path).get("vertex")
    names = () if rows is None else rows.dtype.names or ()
    if rows is None or any(name not in names for name in _CORE):
        raise InputError(f"{path.name} is not a Gaussian splat: it lacks properties of one")
    column = {name: rows[name] for name in names}
    rest = sorted((n for n in column if n.startswith("f_rest_")), key=lambda n: int(n.rpartition("_")[2]))
    if len(rest) not in (0, 9, 24, 45):
        raise InputError(f"{path.name} has {len(rest)} f_rest properties; splats have 0, 9, 24 or 45")
    used = [column[name] for name in (*_CORE, *rest)]
    bands = len(rest) // 3
    harmonics = np.empty((len(rows), bands + 1, 3), np.float32)
    for color in range(3):
        harmonics[:, 0, color] = column[f"f_dc_{color}"]
        for band in range(bands):
            harmonics[:, band + 1, color] = column[rest[color * bands + band]]
    return StrangeSplats(
        kind=".ply",
        means=np.column_stack([column[c] for c in "xyz"]),
        scales=np.exp(np.column_stack([column[f"scale_{i}"] for i in range(3)])),
        quaternions=np.column_stack([column[f"rot_{i}"] for i in range(4)]),
        opacities=1 / (1 + np.exp(-column["opacity"])),
        harmonics=harmonics,
        nonfinite=sum(int(np.count_nonzero(~np.isfinite(values))) for values in used),
        axes=_axes(path),
    )


def _axes(path: Path) -> str:
    """The comment on the axes, if there is one."""
    with path.open("rb") as file:
        found = re.search(rb"^comment Axes: *(\w*)", file.read(1 << 16).partition(b"end_header")[0], re.M)
    return found[1].decode("ascii").lower() if found else ""


def _activated(kind: str, harmonics: np.ndarray, *, axes: str = "", **fields: np.ndarray) -> StrangeSplats:
    arrays = {name: np.asarray(field, np.float32) for name, field in (*fields.items(), ("harmonics", harmonics))}
    return StrangeSplats(
        kind=kind,
        means=arrays["means"],
        scales=arrays["scales"],
        quaternions=arrays["quaternions"],
        opacities=arrays["opacities"],
        harmonics=arrays["harmonics"],
        nonfinite=sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays.values()),
        axes=axes,
    )


def _antimatter(path: Path) -> StrangeSplats:
    """antimatter15's: rows of 8 float32 words, the last two of which are 8 bytes."""
    words = np.fromfile(path, "<f4").reshape(-1, 8)
    octets = words[:, 6:].copy().view(np.uint8).astype(np.float64)
    return _activated(
        ".splat",
        ((octets[:, None, 0:3] / 255) - 0.5) * (2 * math.sqrt(math.pi)),
        means=words[:, 0:3],
        scales=words[:, 3:6],
        quaternions=octets[:, 4:8] / 128 - 1,
        opacities=octets[:, 3] / 255,
    )


def _page(path: Path) -> StrangeSplats:
    """A page of ours holds an .spz in a script element that is no script."""
    found: list[str] = []

    class Reader(html.parser.HTMLParser):
        inside = False

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.inside = tag == "script" and ("id", "splats") in attrs

        def handle_data(self, data: str) -> None:
            if self.inside:
                found.append(data)

        def handle_endtag(self, tag: str) -> None:
            self.inside = False

    Reader().feed(path.read_text("utf-8"))
    packed = base64.b64decode("".join(found).strip(), validate=True)
    if not packed:
        raise InputError(f"{path.name} is a page without splats; check reads the pages that da3gs exports")
    return _spz(path.name, io.BytesIO(packed), len(packed), kind=".html")


def _points(path: Path) -> StrangeSplats:
    """The centres in the first mesh of a binary glTF file, back in a PLY's axes."""
    data = path.read_bytes()
    length, kind = struct.unpack_from("<I4s", data, 12)
    document = json.loads(data[20 : 20 + length])
    if kind != b"JSON" or struct.unpack_from("<I", data, 8) != (len(data),):
        raise InputError(f"{path.name} is cut short or no binary glTF file")
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    view = document["bufferViews"][accessor["bufferView"]]
    start = 28 + length + view.get("byteOffset", 0)
    means = np.frombuffer(data, "<f4", 3 * accessor["count"], start).reshape(-1, 3) * np.array([1, -1, -1], np.float32)
    none = np.zeros((0, 4), np.float32)
    return StrangeSplats(
        kind=".glb",
        means=means,
        scales=none,
        quaternions=none,
        opacities=none,
        harmonics=none,
        nonfinite=int(np.count_nonzero(~np.isfinite(means))),
        points=True,
    )


def _spz(name: str, file: io.IOBase, size: int, kind: str = ".spz") -> StrangeSplats:
    """Niantic's, version 3, whose world is a PLY's after half a turn about x."""
    with gzip.open(file) as stream:
        magic, version, count, degree, bits = struct.unpack("<4sIIBB2x", stream.read(16))
        if magic != b"NGSP" or version != 3 or degree > 3:
            raise InputError(f"{name} holds no .spz of version 3, the one that check knows")
        bands = degree * (degree + 2)
        widths = (9, 1, 3, 3, 4, 3 * bands)
        if count * sum(widths) > size * 1100:
            raise InputError(f"{name} is cut short: {count} splats do not fit in it")
        fields = [np.frombuffer(stream.read(count * width), np.uint8).reshape(count, width) for width in widths]
        if stream.read(1):
            raise InputError(f"{name} holds more than its {count} splats")
    octets = [field.astype(np.int64) for field in fields]
    fixed = octets[0].reshape(count, 3, 3) @ np.array([1, 256, 65536])
    means = np.where(fixed >= 2**23, fixed - 2**24, fixed) / 2.0**bits
    packed = octets[4] @ np.array([1, 2**8, 2**16, 2**24])
    xyzw = np.zeros((count, 4))
    for component in (3, 2, 1, 0):  # the last one written lies in the lowest bits
        stored = packed >> 30 != component
        top = packed & ~(3 << 30)
        value = (top & 511) / 511 * math.sqrt(0.5) * np.where(top & 512, -1, 1)
        xyzw[stored, component] = value[stored]
        packed = np.where(stored, (packed & (3 << 30)) | (top >> 10), packed)
    largest = octets[4][:, 3] >> 6
    xyzw[np.arange(count), largest] = np.sqrt(np.maximum(0, 1 - (xyzw**2).sum(1)))
    harmonics = np.zeros((count, bands + 1, 3))
    harmonics[:, 0] = (octets[2] / 255 - 0.5) / 0.15
    harmonics[:, 1:] = (octets[5].reshape(count, bands, 3) - 128) / 128
    return _activated(
        kind,
        _turned_back(harmonics),
        means=means * [1, -1, -1],
        scales=np.exp(octets[3] / 16 - 10),
        quaternions=xyzw[:, [3, 0, 1, 2]] * [1, 1, -1, -1],
        opacities=octets[1][:, 0] / 255,
    )


def _turned_back(harmonics: np.ndarray) -> np.ndarray:
    """Harmonics after half a turn about x: the even and odd of y and z, written out by their polynomials."""
    polynomials = ["", "y", "z", "x", "xy", "yz", "zz", "xz", "xx", "yxx", "xyz", "yzz", "zzz", "xzz", "zxx", "xxx"]
    signs = [(-1) ** sum(letter in "yz" for letter in name) for name in polynomials[: harmonics.shape[1]]]
    return harmonics * np.array(signs)[:, None]


def _compressed(path: Path) -> StrangeSplats:
    """PlayCanvas': unsigned fractions between the bounds of chunks of 256."""
    elements = _elements(path)
    chunks, vertices, rest = elements["chunk"], elements.get("vertex"), elements.get("sh")
    if vertices is None or not {"packed_position", "packed_rotation", "packed_scale", "packed_color"} <= set(
        vertices.dtype.names or ()
    ):
        raise InputError(f"{path.name} is no compressed PLY that check knows")
    if len(chunks) * 256 < len(vertices) or (rest is not None and len(rest) != len(vertices)):
        raise InputError(f"{path.name} is broken: its chunks or harmonics do not fit its {len(vertices)} splats")
    chunk = chunks[np.arange(len(vertices)) >> 8]

    def fractions(name: str, *widths: int) -> list[np.ndarray]:
        value, columns = vertices[name].astype(np.int64), []
        for width in reversed(widths):
            columns.append((value % 2**width) / (2**width - 1))
            value = value // 2**width
        return columns[::-1]

    def between(name: str, fraction: np.ndarray) -> np.ndarray:
        if f"min_{name}" not in (chunk.dtype.names or ()):
            return fraction
        low, high = chunk[f"min_{name}"].astype(np.float64), chunk[f"max_{name}"].astype(np.float64)
        return low * (1 - fraction) + high * fraction

    position, scale = fractions("packed_position", 11, 10, 11), fractions("packed_scale", 11, 10, 11)
    *color, alpha = fractions("packed_color", 8, 8, 8, 8)
    which, a, b, c = fractions("packed_rotation", 2, 10, 10, 10)
    small = [(part - 0.5) * math.sqrt(2) for part in (a, b, c)]
    large = np.sqrt(np.maximum(0, 1 - sum(part**2 for part in small)))
    quaternions = np.zeros((len(vertices), 4))
    for index in range(4):
        chosen = np.rint(which * 3) == index
        quaternions[chosen] = np.column_stack([*small[:index], large, *small[index:]])[chosen]
    bands = 0 if rest is None else len(rest.dtype.names or ()) // 3
    harmonics = np.zeros((len(vertices), bands + 1, 3))
    for channel, name in enumerate("rgb"):
        harmonics[:, 0, channel] = (between(name, color[channel]) - 0.5) * (2 * math.sqrt(math.pi))
        for band in range(bands):
            assert rest is not None
            harmonics[:, band + 1, channel] = ((rest[f"f_rest_{channel * bands + band}"] + 0.5) / 256 - 0.5) * 8
    return _activated(
        ".compressed.ply",
        harmonics,
        means=np.column_stack([between(name, position[i]) for i, name in enumerate("xyz")]),
        scales=np.exp(np.column_stack([between(f"scale_{name}", scale[i]) for i, name in enumerate("xyz")])),
        quaternions=quaternions,
        opacities=alpha,
        axes=_axes(path),
    )
