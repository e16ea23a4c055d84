"""Splats as points in a binary glTF file, for programs that know no splats: a colour and an opacity each, no size.

What makes splats look solid (their extent, and colours that change with the direction) does not fit into glTF's points;
the file says so. Its axes are glTF's, y up and z back: y and z of a PLY are negated.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from da3gs._files import atomic_file
from da3gs.errors import InputError
from da3gs.formats._quantising import finite_arrays
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0

_JSON, _BIN = 0x4E4F534A, 0x004E4942
_POINTS, _FLOAT, _ARRAY_BUFFER = 0, 5126, 34962
_NOTE = "points, not splats: centres, colours and opacities; sizes, rotations and harmonics are left out"


def save_glb(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False) -> None:
    """Write one mesh of points: POSITION, and COLOR_0 in linear light with the opacity, all float32.

    Smaller types of colours are allowed, but not every reader scales them.

    Raises:
        InputError: a number is not finite, there are no splats, or ``path`` exists and ``overwrite`` is false.
    """
    path = Path(path)
    data = glb_bytes(gaussians, path.name)
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def glb_bytes(gaussians: Gaussians, name: str) -> bytes:
    """What ``save_glb`` writes; ``name`` is what messages call it.

    Raises:
        InputError: a number is not finite, or there are no splats.
    """
    if not len(gaussians):
        raise InputError(f"{name} would be empty: there are no splats, and glTF allows no mesh without points")
    arrays = finite_arrays(gaussians, name)
    means = (arrays["means"] * np.array([1, -1, -1], np.float32)).astype("<f4")
    shown = (arrays["harmonics"][:, 0] * np.float32(C0) + np.float32(0.5)).clip(0, 1)
    colors = np.concatenate((_linear(shown), arrays["opacities"][:, None].clip(0, 1)), 1)
    data = means.tobytes() + colors.astype("<f4").tobytes()
    content = _chunk(json.dumps(_document(means, len(data))).encode(), _JSON, b" ")
    binary = _chunk(data, _BIN, b"\0")
    size = 12 + len(content) + len(binary)
    if size >= 2**32:
        raise InputError(f"{name} would be {size} bytes; a .glb holds less than 4 GiB: use --budget")
    return struct.pack("<4sII", b"glTF", 2, size) + content + binary


def _document(means: np.ndarray, size: int) -> dict[str, object]:
    count = len(means)
    return {
        "asset": {"version": "2.0", "generator": "da3gs", "extras": {"note": _NOTE}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "points"}],
        "meshes": [
            {
                "name": "points",
                "primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "mode": _POINTS, "material": 0}],
            }
        ],
        "materials": [{"name": "points", "alphaMode": "BLEND"}],
        "buffers": [{"byteLength": size}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 12 * count, "target": _ARRAY_BUFFER},
            {"buffer": 0, "byteOffset": 12 * count, "byteLength": 16 * count, "target": _ARRAY_BUFFER},
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": _FLOAT,
                "count": count,
                "type": "VEC3",
                "min": means.min(0).tolist(),
                "max": means.max(0).tolist(),
            },
            {"bufferView": 1, "componentType": _FLOAT, "count": count, "type": "VEC4"},
        ],
    }


def _chunk(data: bytes, kind: int, padding: bytes) -> bytes:
    padded = data + padding * (-len(data) % 4)
    return struct.pack("<II", len(padded), kind) + padded


def _linear(color: np.ndarray) -> np.ndarray:
    """sRGB to linear light, which is what glTF's colours are in."""
    linear: np.ndarray = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return linear
