"""Binary glTF with the extension KHR_gaussian_splatting: float32 splats, harmonics to degree 3, nothing lost.

Programs that do not know the extension show the same file as coloured points. glTF's worlds have y up; of the two such
frames that OpenCV's axes turn into, x left and z forward (LUF) is taken, as splat-transform and Niantic do, so that
their files and ours lie over each other.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from da3gs._files import atomic_file
from da3gs.errors import InputError
from da3gs.formats.axes import with_axes
from da3gs.formats.encoding.gltf import Document, read_document
from da3gs.formats.encoding.quantising import finite_arrays, to_gaussians
from da3gs.formats.records import Format, SplatFile, WriteOptions
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0

EXTENSION = "KHR_gaussian_splatting"
AXES = "LUF"
"""Of the files that are written."""

_JSON, _BIN = 0x4E4F534A, 0x004E4942
_POINTS, _FLOAT, _ARRAY_BUFFER = 0, 5126, 34962
_SPLATTING = {
    "kernel": "ellipse",
    "colorSpace": "srgb_rec709_display",
    "projection": "perspective",
    "sortingMethod": "cameraDistance",
}


def save_glb(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False) -> None:
    """Write splats of a PLY's axes as one mesh primitive of points with the extension.

    Raises:
        InputError: a number is not finite, there are no splats, or ``path`` exists and ``overwrite`` is false.
    """
    path = Path(path)
    data = glb_bytes(with_axes(gaussians, "RDF", AXES), path.name, WriteOptions(axes=AXES))
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def glb_bytes(gaussians: Gaussians, name: str, options: WriteOptions) -> bytes:
    """The content of a file whose numbers are those of the splats; ``name`` is what messages call it.

    Raises:
        InputError: a number is not finite, or there are no splats.
    """
    if not len(gaussians):
        raise InputError(f"{name} would be empty: there are no splats, and glTF allows no mesh without points")
    arrays = finite_arrays(gaussians, name)
    attributes = _attributes(arrays)
    return glb_container(_document(attributes, options), list(attributes.values()), name)


def glb_container(document: dict[str, Any], arrays: Sequence[np.ndarray], name: str) -> bytes:
    """Binary glTF: a document and the arrays that its buffer views refer to, one after the other.

    Raises:
        InputError: it would be too large; ``name`` is what the message calls it.
    """
    content = _chunk(json.dumps(document).encode(), _JSON, b" ")
    size = sum(values.nbytes for values in arrays)
    total = 12 + len(content) + 8 + size
    if total >= 2**32:
        raise InputError(f"{name} would be {total} bytes; a .glb holds less than 4 GiB: use --budget")
    head = struct.pack("<4sII", b"glTF", 2, total), content, struct.pack("<II", size, _BIN)
    return b"".join((*head, *(values.tobytes() for values in arrays)))


def _attributes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every attribute of the primitive, float32, so that each begins at a multiple of 4 bytes.

    ``COLOR_0`` is in linear light by the core specification, while the harmonics are in sRGB.
    """
    shown = (arrays["harmonics"][:, 0] * np.float32(C0) + np.float32(0.5)).clip(0, 1)
    opacities = arrays["opacities"].clip(0, 1)
    found = {
        "POSITION": arrays["means"],
        "COLOR_0": np.concatenate((linear_light(shown), opacities[:, None]), 1),
        f"{EXTENSION}:ROTATION": np.roll(arrays["quaternions"], -1, 1),
        f"{EXTENSION}:SCALE": arrays["scales"],
        f"{EXTENSION}:OPACITY": opacities,
    }
    for index, (degree, order) in enumerate(_orders(arrays["harmonics"].shape[1])):
        found[f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{order}"] = arrays["harmonics"][:, index]
    return {semantic: np.ascontiguousarray(values, "<f4") for semantic, values in found.items()}


def _orders(bands: int) -> list[tuple[int, int]]:
    """Degree and place within it of every harmonic."""
    return [(degree, order) for degree in range(4) for order in range(2 * degree + 1)][:bands]


def _document(attributes: dict[str, np.ndarray], options: WriteOptions) -> dict[str, Any]:
    views, accessors, at = [], [], 0
    for index, (semantic, values) in enumerate(attributes.items()):
        views.append({"buffer": 0, "byteOffset": at, "byteLength": values.nbytes, "target": _ARRAY_BUFFER})
        kind = f"VEC{values.shape[1]}" if values.ndim == 2 else "SCALAR"
        accessor = {"bufferView": index, "componentType": _FLOAT, "count": len(values), "type": kind}
        if semantic == "POSITION":
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        accessors.append(accessor)
        at += values.nbytes
    primitive = {
        "attributes": {semantic: index for index, semantic in enumerate(attributes)},
        "mode": _POINTS,
        "material": 0,
        "extensions": {EXTENSION: _SPLATTING},
    }
    return {
        "asset": {"version": "2.0", "generator": "da3gs", "extras": {"axes": options.axes}},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "splats"}],
        "meshes": [{"name": "splats", "primitives": [primitive]}],
        "materials": [{"name": "points", "alphaMode": "BLEND"}],
        "buffers": [{"byteLength": at}],
        "bufferViews": views,
        "accessors": accessors,
    }


def _chunk(data: bytes, kind: int, padding: bytes) -> bytes:
    padded = data + padding * (-len(data) % 4)
    return struct.pack("<II", len(padded), kind) + padded


def linear_light(color: np.ndarray) -> np.ndarray:
    """sRGB to linear light."""
    linear: np.ndarray = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return linear


def load_glb(path: Path | str) -> SplatFile:
    """Read the splats of every primitive with the extension that the scene shows, moved by their nodes.

    Raises:
        InputError: the file is missing, damaged, holds no splats, or stores them in a way that is not read.
    """
    path = Path(path)
    document = read_document(path)
    try:
        parts = []
        for primitive, similarity in document.primitives(EXTENSION):
            splats = _splats(document, primitive)
            parts.append(splats if similarity is None else splats.transformed(similarity))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} is damaged: {' '.join(str(error).split())[:100]}") from error
    if not parts:
        raise InputError(f"{path.name} holds meshes or points, no Gaussian splats ({EXTENSION})")
    axes = document.stated_axes
    return SplatFile(
        gaussians=Gaussians.concatenated(parts),
        axes=axes or AXES,
        reason="stated by the file" if axes else "glTF has y up, and x left, z forward is how splats are turned to it",
        stated=axes is not None,
    )


def _splats(document: Document, primitive: dict[str, Any]) -> Gaussians:
    """The splats of one primitive."""
    said = primitive["extensions"][EXTENSION]
    if said.get("extensions"):
        raise InputError(
            f"{document.name} compresses its splats ({', '.join(said['extensions'])[:60]}); export it plain"
        )
    if said.get("colorSpace") != _SPLATTING["colorSpace"]:
        raise InputError(f"{document.name} has colours in {str(said.get('colorSpace'))[:40]}; da3gs reads sRGB")
    attributes = primitive["attributes"]
    whole = [degree for degree in range(4) if f"{EXTENSION}:SH_DEGREE_{degree}_COEF_0" in attributes]
    semantics = [f"{EXTENSION}:SH_DEGREE_{d}_COEF_{order}" for d in whole for order in range(2 * d + 1)]
    if whole != list(range(len(whole))) or not whole or not set(semantics) <= set(attributes):
        raise InputError(f"{document.name} has harmonics of a degree without all of those below or beside them")
    names = {"means": "POSITION", "scales": f"{EXTENSION}:SCALE", "opacities": f"{EXTENSION}:OPACITY"}
    missing = [semantic for semantic in (*names.values(), f"{EXTENSION}:ROTATION") if semantic not in attributes]
    if missing:
        raise InputError(f"{document.name} has splats without {missing[0]}")
    arrays = {field: document.values(attributes[semantic]) for field, semantic in names.items()}
    arrays["quaternions"] = np.roll(document.values(attributes[f"{EXTENSION}:ROTATION"]), 1, 1)
    arrays["harmonics"] = np.stack([document.values(attributes[semantic]) for semantic in semantics], 1)
    arrays["opacities"] = arrays["opacities"][:, 0]
    widths = {"means": 3, "scales": 3, "quaternions": 4, "harmonics": 3}
    if any(arrays[field].shape[-1] != width for field, width in widths.items()):
        raise InputError(f"{document.name} has splats whose attributes have another number of components than due")
    if len({len(values) for values in arrays.values()}) > 1:
        raise InputError(f"{document.name} has attributes of different lengths in one primitive")
    return to_gaussians(arrays)


FORMAT = Format(
    name="glb",
    suffix=".glb",
    begins=lambda start, _: start.startswith(b"glTF"),
    load=load_glb,
    lossless=True,
    encode=lambda gaussians, name, options: [glb_bytes(gaussians, name, options)],
    axes=lambda _: AXES,
)
"""glTF 2.0 with KHR_gaussian_splatting."""
