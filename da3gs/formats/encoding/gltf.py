"""Binary glTF containers: chunks, accessors and the node tree, checked against the bytes that are there."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from da3gs._files import open_regular
from da3gs.errors import InputError
from da3gs.formats.axes import ALL_AXES
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.geometry.similarity import Similarity

_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_UNDERSTOOD = {"KHR_gaussian_splatting", "KHR_mesh_quantization", "KHR_materials_unlit"}
_MAX_NODES = 10_000


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Document:
    """A parsed file."""

    name: str
    """What messages call it."""
    content: dict[str, Any]
    """The JSON chunk."""
    binary: bytes
    """The binary chunk."""

    @property
    def stated_axes(self) -> str | None:
        """Axes that the file states in its extras, as da3gs writes them."""
        asset = self.content.get("asset")
        extras = asset.get("extras") if isinstance(asset, dict) else None
        axes = extras.get("axes") if isinstance(extras, dict) else None
        return axes if axes in ALL_AXES else None

    def values(self, index: int) -> np.ndarray:
        """An accessor as float32 ``[count, components]``, integers divided by their range where they are normalised."""
        accessor = self._item("accessors", index)
        if "sparse" in accessor or "bufferView" not in accessor:
            raise InputError(f"{self.name} has a sparse accessor, which da3gs does not read")
        view = self._item("bufferViews", accessor["bufferView"])
        buffer = self._item("buffers", view["buffer"])
        if view["buffer"] != 0 or "uri" in buffer:
            raise InputError(f"{self.name} keeps its data in other files; pack it into one .glb")
        kind, count = np.dtype(_TYPES[accessor["componentType"]]), accessor["count"]
        width = _COMPONENTS[accessor["type"]]
        stride = view.get("byteStride") or kind.itemsize * width
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        numbers = (count, stride, start, view["byteLength"])
        if not all(isinstance(number, int) and number >= 0 for number in numbers) or stride < kind.itemsize * width:
            raise InputError(f"{self.name} is damaged: an accessor has offsets that make no sense")
        end = start + (count - 1) * stride + kind.itemsize * width if count else start
        if end > min(view.get("byteOffset", 0) + view["byteLength"], len(self.binary)):
            raise InputError(f"{self.name} is cut short: an accessor of {count} elements reaches beyond its data")
        raw = np.ndarray((count, width), kind, self.binary, start, (stride, kind.itemsize))
        values = raw.astype(np.float32)
        if accessor.get("normalized") and kind.kind in "iu":
            values = np.maximum(values / np.float32(np.iinfo(kind).max), -1)
        return values

    def primitives(self, extension: str) -> Iterator[tuple[dict[str, Any], Similarity | None]]:
        """The primitives with an extension that the scene shows, and where their nodes put them; None: nowhere else."""
        nodes = self.content.get("nodes", [])
        scenes = self.content.get("scenes")
        roots = self._item("scenes", self.content.get("scene", 0)).get("nodes", []) if scenes else range(len(nodes))
        waiting = [(root, np.eye(4)) for root in roots]
        seen: set[int] = set()
        while waiting:
            index, parent = waiting.pop(0)
            if index in seen or len(seen) > _MAX_NODES:
                raise InputError(f"{self.name} is damaged: its nodes are no tree")
            seen.add(index)
            node = self._item("nodes", index)
            world = parent @ _matrix(node)
            waiting += [(child, world) for child in node.get("children", [])]
            for primitive in self._item("meshes", node["mesh"])["primitives"] if "mesh" in node else []:
                if extension in primitive.get("extensions", {}):
                    yield primitive, self._similarity(world)

    def _item(self, kind: str, index: Any) -> dict[str, Any]:
        items = self.content.get(kind, [])
        if not isinstance(index, int) or not isinstance(items, list) or not 0 <= index < len(items):
            raise InputError(f"{self.name} is damaged: it has no {kind} number {index}")
        item = items[index]
        if not isinstance(item, dict):
            raise InputError(f"{self.name} is damaged: {kind} number {index} is no object")
        return item

    def _similarity(self, matrix: np.ndarray) -> Similarity | None:
        if np.array_equal(matrix, np.eye(4)):
            return None
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        scale = lengths.mean()
        if not np.isfinite(matrix).all() or np.ptp(lengths) > 1e-4 * scale or np.linalg.det(matrix[:3, :3]) <= 0:
            raise InputError(f"{self.name} stretches or mirrors its splats by a node; apply that before exporting")
        return Similarity(
            scale=torch.tensor(scale),
            rotation=torch.from_numpy(matrix[:3, :3] / scale),
            translation=torch.from_numpy(matrix[:3, 3].copy()),
        )


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """A node's own transform."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    turn = quaternion_to_matrix(torch.tensor([w, x, y, z], dtype=torch.float64)).numpy()
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), np.float64).reshape(1, 3)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64).reshape(3)
    return matrix


def read_document(path: Path) -> Document:
    """Read a .glb.

    Raises:
        InputError: it is missing, cut short, no glTF 2, or needs an extension that is not understood.
    """
    with open_regular(path) as file:
        data = file.read()
    if len(data) < 20 or not data.startswith(b"glTF"):
        raise InputError(f"{path.name} is cut short or no binary glTF file")
    _, version, total, length, kind = struct.unpack_from("<4sIII4s", data)
    if version != 2:
        raise InputError(f"{path.name} is glTF version {version}; da3gs reads 2")
    if total > len(data) or kind != b"JSON" or 20 + length > total:
        raise InputError(f"{path.name} is cut short: it announces {total} bytes and has {len(data)}")
    try:
        content = json.loads(data[20 : 20 + length])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is damaged: its JSON cannot be read ({str(error)[:60]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name} is damaged: its JSON is no object")
    needed = content.get("extensionsRequired", [])
    foreign = [str(name) for name in needed if name not in _UNDERSTOOD] if isinstance(needed, list) else []
    if foreign:
        raise InputError(
            f"{path.name} needs the extension {foreign[0][:60]}, which da3gs does not know; export it plain"
        )
    binary = b""
    if 28 + length <= total:
        size, kind = struct.unpack_from("<I4s", data, 20 + length)
        binary = data[28 + length : 28 + length + size] if kind == b"BIN\0" else b""
    return Document(name=path.name, content=content, binary=binary)
