"""Triangle mesh with vertex colours: a scene's depth maps fused to a surface, as .ply or binary glTF."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import plyfile
from jaxtyping import Float, Int, UInt8
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from da3gs._files import atomic_file
from da3gs.depth.tsdf_fusion import DepthMap, Mesh, fuse
from da3gs.errors import InputError
from da3gs.formats.axes import axes_change
from da3gs.formats.splats.glb import AXES, glb_container, linear_light
from da3gs.scene import Scene

SUFFIXES = (".ply", ".glb")
"""What a mesh may be written as."""

_VOXEL, _TRUNCATION = 1.5, 4.0  # side in pixels' footprints at the median depth; band in voxels
_MOST_FACES = 600_000  # more are made fewer by larger voxels
_SMALLEST_PART = 60  # faces: smaller parts hang in the air
_COARSER, _TRIES = 1.5, 12


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ColoredMesh:
    """Triangles in a scene's frame."""

    vertices: Float[np.ndarray, "N 3"]
    """OpenCV axes, the scene's unit."""
    faces: Int[np.ndarray, "M 3"]
    """Rows of ``vertices``, counter-clockwise seen from outside."""
    colors: UInt8[np.ndarray, "N 3"]
    """sRGB."""


def mesh_of(scene: Scene, *, most_faces: int = _MOST_FACES) -> ColoredMesh:
    """The surface that a scene's depth maps agree on, in the colours of its photos.

    Voxels begin at one and a half pixels' footprints and grow until the mesh has at most so many faces; parts of a few
    faces go.

    Args:
        scene: with depth.
        most_faces: at most about so many triangles.

    Raises:
        InputError: the scene has no depth, or none that makes a surface.
    """
    if scene.depth is None:
        raise InputError("the scene has no depth.npz, which a mesh is made of; reconstruct the photos again")
    cameras = scene.cameras
    depth, poses = scene.depth.cpu().numpy(), cameras.world_to_cam.double().cpu().numpy()
    intrinsics = cameras.intrinsics.double().cpu().numpy()
    maps = [DepthMap(depth=d, intrinsics=k, world_to_cam=p) for d, k, p in zip(depth, intrinsics, poses, strict=True)]
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        raise InputError("the scene's depth maps hold no depth, so there is nothing to make a mesh of")
    voxel = _VOXEL * float(np.median(depth[known])) / float(np.median(intrinsics[:, 0, 0]))
    for _ in range(_TRIES):
        try:
            mesh = _welded(fuse(maps, voxel=voxel, truncation=_TRUNCATION * voxel), voxel)
        except InputError:  # too many voxels
            mesh = None
        if mesh is not None and len(mesh.faces) <= most_faces:
            break
        voxel *= _COARSER
    if mesh is None or not len(mesh.faces):
        raise InputError("the scene's depth maps make no surface; a mesh needs depth that photos agree on")
    photos = scene.views.images.movedim(1, -1).cpu().numpy()
    return ColoredMesh(
        vertices=mesh.vertices, faces=mesh.faces, colors=_colors(mesh, maps, photos, _TRUNCATION * voxel)
    )


def check_mesh_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output before anything is computed.

    Raises:
        InputError: another suffix, or ``path`` exists and ``overwrite`` is false.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"a mesh is written as {' or '.join(SUFFIXES)}, got {path.name}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; give another name, or --overwrite")


def save_mesh(mesh: ColoredMesh, path: Path | str, *, overwrite: bool = False) -> None:
    """Write a mesh as ``.ply`` (the scene's OpenCV axes) or ``.glb`` (y up, as glTF wants it).

    Raises:
        InputError: another suffix, or ``path`` exists and ``overwrite`` is false.
    """
    path = Path(path)
    check_mesh_output(path, overwrite=overwrite)
    with atomic_file(path, overwrite=overwrite) as temporary:
        if path.suffix.lower() == ".glb":
            temporary.write_bytes(_glb(mesh, path.name))
        else:
            with temporary.open("wb") as file:
                _ply(mesh).write(file)


def _welded(mesh: Mesh, voxel: float) -> Mesh:
    """The mesh with the vertices of neighbouring blocks made one, without small parts."""
    if not len(mesh.faces):
        return mesh
    _, first, row = np.unique(
        np.round(mesh.vertices / (1e-3 * voxel)).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    faces = row.reshape(-1)[mesh.faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    count = len(first)
    edges = np.concatenate((faces[:, :2], faces[:, 1:]))
    graph = coo_matrix((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    part = connected_components(graph, directed=False)[1][faces[:, 0]]
    faces = faces[np.bincount(part)[part] >= _SMALLEST_PART]
    used = np.unique(faces)
    number = np.zeros(count, np.int64)
    number[used] = np.arange(len(used))
    return Mesh(vertices=mesh.vertices[first[used]], faces=number[faces])


def _colors(
    mesh: Mesh, maps: list[DepthMap], photos: Float[np.ndarray, "V H W 3"], band: float
) -> UInt8[np.ndarray, "N 3"]:
    """Each vertex as the photos show it that see it, nearer ones counting for more."""
    total, weight = np.zeros((len(mesh.vertices), 3)), np.zeros(len(mesh.vertices))
    for entry, photo in zip(maps, photos, strict=True):
        local = mesh.vertices @ entry.world_to_cam[:3, :3].T + entry.world_to_cam[:3, 3]
        z = np.where(local[:, 2] > 0, local[:, 2], np.nan)
        u, v = (local @ entry.intrinsics.T)[:, :2].T / z
        height, width = entry.depth.shape
        inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)  # NaN is outside
        rows, columns = v[inside].astype(int), u[inside].astype(int)
        seen = np.abs(entry.depth[rows, columns] - z[inside]) < band
        share = np.where(seen, z[inside] ** -2.0, 1e-9 * z[inside] ** -2.0)  # hidden ones only where nothing else is
        np.add.at(total, np.flatnonzero(inside), share[:, None] * photo[rows, columns])
        np.add.at(weight, np.flatnonzero(inside), share)
    mean = total / np.maximum(weight, 1e-30)[:, None]
    return np.asarray((mean * 255).round().clip(0, 255), np.uint8)


def _ply(mesh: ColoredMesh) -> plyfile.PlyData:
    vertices = np.empty(len(mesh.vertices), [(n, "<f4") for n in "xyz"] + [(n, "u1") for n in ("red", "green", "blue")])
    for axis, name in enumerate("xyz"):
        vertices[name] = mesh.vertices[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = mesh.colors[:, channel]
    faces = np.empty(len(mesh.faces), [("vertex_indices", "<i4", (3,))])
    faces["vertex_indices"] = mesh.faces
    elements = [plyfile.PlyElement.describe(vertices, "vertex"), plyfile.PlyElement.describe(faces, "face")]
    return plyfile.PlyData(elements, byte_order="<", comments=["Vertical axis: -y"])


def _glb(mesh: ColoredMesh, name: str) -> bytes:
    points = (mesh.vertices @ axes_change("RDF", AXES).numpy().T).astype("<f4")
    light = (linear_light(mesh.colors / 255) * 65535).round().astype("<u2")
    colors = np.concatenate((light, np.full((len(light), 1), 65535, "<u2")), axis=1)
    arrays = [points, colors, mesh.faces.astype("<u4")]
    offsets = np.cumsum([0, *(array.nbytes for array in arrays)]).tolist()
    views = [
        {"buffer": 0, "byteOffset": start, "byteLength": array.nbytes, "target": target}
        for start, array, target in zip(offsets, arrays, (34962, 34962, 34963), strict=False)
    ]
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": len(points), "type": "VEC3",
         "min": points.min(0).tolist(), "max": points.max(0).tolist()},
        {"bufferView": 1, "componentType": 5123, "count": len(points), "type": "VEC4", "normalized": True},
        {"bufferView": 2, "componentType": 5125, "count": mesh.faces.size, "type": "SCALAR"},
    ]  # fmt: skip
    primitive = {"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0}
    document = {
        "asset": {"version": "2.0", "generator": "da3gs"}, "scene": 0, "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}], "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1}, "doubleSided": True}],
        "buffers": [{"byteLength": offsets[-1]}], "bufferViews": views, "accessors": accessors,
    }  # fmt: skip
    return glb_container(document, arrays, name)
