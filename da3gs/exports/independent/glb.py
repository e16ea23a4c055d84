"""Binary glTF with KHR_gaussian_splatting, as da3gs and splat-transform write it: one primitive of float32."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from da3gs.errors import InputError
from da3gs.exports.independent.record import DecodedSplats

_WIDTH = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


def decode(path: Path) -> DecodedSplats:
    """The splats of a file."""
    data = path.read_bytes()
    length, kind = struct.unpack_from("<I4s", data, 12)
    if kind != b"JSON" or struct.unpack_from("<I", data, 8) != (len(data),):
        raise InputError(f"{path.name} is cut short or no binary glTF file")
    document = json.loads(data[20 : 20 + length])
    primitive = document["meshes"][0]["primitives"][0]
    if "KHR_gaussian_splatting" not in primitive.get("extensions", {}):
        raise InputError(f"{path.name} holds points or meshes, no Gaussian splats")
    if len(document["nodes"]) != 1 or set(document["nodes"][0]) - {"mesh", "name"}:
        raise InputError(f"{path.name} moves its splats by nodes, which check does not follow")

    def column(name: str) -> np.ndarray:
        """The numbers of an attribute."""
        accessor = document["accessors"][primitive["attributes"][name]]
        view = document["bufferViews"][accessor["bufferView"]]
        if accessor["componentType"] != 5126 or "byteStride" in view:
            raise InputError(f"{path.name} has {name} in another form than float32 in a row, which check does not read")
        start = 28 + length + view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        width = _WIDTH[accessor["type"]]
        return np.frombuffer(data, "<f4", width * accessor["count"], start).reshape(-1, width)

    bands = sum("SH_DEGREE" in name for name in primitive["attributes"])
    numbers = [(band, k) for band in range(4) for k in range(2 * band + 1)][:bands]
    splatting = "KHR_gaussian_splatting:"
    stated = document["asset"].get("extras", {}).get("axes")
    return DecodedSplats.of(
        ".glb",
        np.stack([column(f"{splatting}SH_DEGREE_{band}_COEF_{k}") for band, k in numbers], 1),
        means=column("POSITION"),
        scales=column(splatting + "SCALE"),
        quaternions=column(splatting + "ROTATION")[:, [3, 0, 1, 2]],
        opacities=column(splatting + "OPACITY")[:, 0],
        axes=stated or "LUF",
        reason="stated by the file"
        if stated
        else "glTF has y up, and x left, z forward is how splats are turned to it",
    )
