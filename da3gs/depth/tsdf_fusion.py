"""Depth maps fused into a surface: truncated signed distances in sparse blocks, then marching cubes.

After Curless and Levoy 1996. Space is cut into blocks of 16 x 16 x 16 voxels, made where depth says that a surface is;
a voxel holds the mean of the signed distances that the depth maps give it, in units of the truncation.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numba import njit

from da3gs._optional import require
from da3gs.errors import InputError

SIDE = 16
"""Voxels along a block."""
MAX_BLOCKS = 60_000
"""Two floats a voxel: 2 GB."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class DepthMap:
    """One depth map and its camera."""

    depth: Float[np.ndarray, "H W"]
    """Along the camera's z axis; 0, negative or NaN: unknown."""
    intrinsics: Float[np.ndarray, "3 3"]
    """In pixels."""
    world_to_cam: Float[np.ndarray, "4 4"]
    """Rigid."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Mesh:
    """Triangles."""

    vertices: Float[np.ndarray, "N 3"]
    """In the world."""
    faces: Int[np.ndarray, "M 3"]
    """Rows of ``vertices``."""


def fuse(maps: Sequence[DepthMap], *, voxel: float, truncation: float) -> Mesh:
    """The surface that depth maps agree on.

    Args:
        maps: depth in the unit of the world.
        voxel: side of a voxel.
        truncation: how far before and behind a surface distances are kept.

    Raises:
        InputError: no depth is known, or the scene is too large for voxels of this size.
    """
    if not 0 < voxel <= truncation:
        raise InputError(f"a voxel of {voxel:g} and a truncation of {truncation:g} make no volume")
    blocks = _blocks(maps, voxel, truncation)
    if not len(blocks):
        raise InputError("the depth maps hold no depth to fuse")
    distance = np.zeros((len(blocks), SIDE, SIDE, SIDE), np.float32)
    weight = np.zeros((len(blocks), SIDE, SIDE, SIDE), np.float32)
    for entry in maps:
        _integrate(
            distance, weight, blocks, voxel, truncation, np.ascontiguousarray(entry.depth, np.float32),
            np.ascontiguousarray(entry.intrinsics, np.float64), np.ascontiguousarray(entry.world_to_cam, np.float64),
        )  # fmt: skip
    return _surface(blocks, distance, weight, voxel)


def _blocks(maps: Sequence[DepthMap], voxel: float, truncation: float) -> Int[np.ndarray, "B 3"]:
    """Indices of the blocks that some surface's truncation band touches, in order."""
    found: set[tuple[int, int, int]] = set()
    side = voxel * SIDE
    for entry in maps:
        pose = np.linalg.inv(entry.world_to_cam)
        known = np.isfinite(entry.depth) & (entry.depth > 0)
        rows, columns = np.nonzero(known)
        z = entry.depth[rows, columns].astype(np.float64)
        pixels = np.stack((columns + 0.5, rows + 0.5, np.ones(len(rows))), -1)
        rays = pixels @ np.linalg.inv(entry.intrinsics).T
        steps = np.arange(-1, 1.01, min(1.0, 0.5 * side / truncation))
        for step in steps:
            points = (rays * (z + step * truncation)[:, None]) @ pose[:3, :3].T + pose[:3, 3]
            touched = np.unique(np.floor(points / side).astype(np.int64), axis=0)
            found.update(map(tuple, touched.tolist()))
            if len(found) > MAX_BLOCKS:
                raise InputError(
                    f"voxels of {voxel:g} are too small for this scene (over {MAX_BLOCKS} blocks); give larger ones"
                )
    return np.array(sorted(found), np.int64).reshape(-1, 3)


@njit(cache=True, nogil=True)
@typing.no_type_check
def _integrate(distance, weight, blocks, voxel, truncation, depth, intrinsics, world_to_cam) -> None:
    """Add one depth map to every voxel that sees it."""
    height, width = depth.shape
    for b in range(len(blocks)):
        for i in range(SIDE):
            for j in range(SIDE):
                for k in range(SIDE):
                    x = (blocks[b, 0] * SIDE + i + 0.5) * voxel
                    y = (blocks[b, 1] * SIDE + j + 0.5) * voxel
                    z = (blocks[b, 2] * SIDE + k + 0.5) * voxel
                    cz = world_to_cam[2, 0] * x + world_to_cam[2, 1] * y + world_to_cam[2, 2] * z + world_to_cam[2, 3]
                    if cz <= 1e-6:
                        continue
                    cx = world_to_cam[0, 0] * x + world_to_cam[0, 1] * y + world_to_cam[0, 2] * z + world_to_cam[0, 3]
                    cy = world_to_cam[1, 0] * x + world_to_cam[1, 1] * y + world_to_cam[1, 2] * z + world_to_cam[1, 3]
                    u = intrinsics[0, 0] * cx / cz + intrinsics[0, 1] * cy / cz + intrinsics[0, 2]
                    v = intrinsics[1, 1] * cy / cz + intrinsics[1, 2]
                    if u < 0 or v < 0 or u >= width or v >= height:
                        continue
                    seen = depth[int(v), int(u)]
                    if not seen > 0 or seen > 1e30:
                        continue
                    signed = (seen - cz) / truncation
                    if signed < -1:
                        continue
                    old = weight[b, i, j, k]
                    distance[b, i, j, k] = (distance[b, i, j, k] * old + min(1.0, signed)) / (old + 1)
                    weight[b, i, j, k] = old + 1


def _surface(
    blocks: Int[np.ndarray, "B 3"],
    distance: Float[np.ndarray, "B s s s"],
    weight: Float[np.ndarray, "B s s s"],
    voxel: float,
) -> Mesh:
    """Marching cubes block by block, each with the first layer of its neighbours, so that no seam stays open."""
    measure = require("skimage.measure", why="marching cubes")
    position = {tuple(block): index for index, block in enumerate(blocks.tolist())}
    vertices, faces, count = [], [], 0
    for block in blocks.tolist():
        values = np.ones((SIDE + 1,) * 3, np.float32)
        seen = np.zeros((SIDE + 1,) * 3, bool)
        for shift in np.ndindex(2, 2, 2):
            other = position.get((block[0] + shift[0], block[1] + shift[1], block[2] + shift[2]))
            if other is None:
                continue
            target = tuple(slice(SIDE, SIDE + 1) if s else slice(0, SIDE) for s in shift)
            source = tuple(slice(0, 1) if s else slice(0, SIDE) for s in shift)
            values[target] = distance[other][source]
            seen[target] = weight[other][source] > 0
        if not seen.any() or values[seen].min() > 0 or values[seen].max() < 0:
            continue
        found = _cubes(measure, values, seen)
        if found is not None:
            corners, triangles = found
            vertices.append((corners + 0.5 + np.array(block) * SIDE) * voxel)
            faces.append(triangles + count)
            count += len(corners)
    if not vertices:
        return Mesh(vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), np.int64))
    return Mesh(vertices=np.concatenate(vertices), faces=np.concatenate(faces))


def _cubes(
    measure: typing.Any, values: Float[np.ndarray, "s s s"], seen: np.ndarray
) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, "m 3"]] | None:
    """The zero surface inside cubes whose eight corners were all seen."""
    whole = seen[:-1, :-1, :-1].copy()
    for shift in np.ndindex(2, 2, 2):
        whole &= seen[shift[0] : shift[0] + SIDE, shift[1] : shift[1] + SIDE, shift[2] : shift[2] + SIDE]
    if not whole.any():
        return None
    mask = np.zeros(values.shape, bool)
    mask[1:, 1:, 1:] = whole  # scikit-image asks at the far corner of each cube
    try:
        corners, triangles, _, _ = measure.marching_cubes(values, 0.0, mask=mask, allow_degenerate=False)
    except (ValueError, RuntimeError):  # no surface inside the mask
        return None
    return corners.astype(np.float64), triangles.astype(np.int64)


def sampled(mesh: Mesh, count: int, *, seed: int = 0) -> Float[np.ndarray, "N 3"]:
    """Points spread evenly over a mesh's area; none for an empty one."""
    if not len(mesh.faces):
        return np.zeros((0, 3))
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if not area.sum() > 0:
        return np.zeros((0, 3))
    generator = np.random.default_rng(seed)
    face = generator.choice(len(area), count, p=area / area.sum())
    u, v = np.sqrt(generator.random((count, 1))), generator.random((count, 1))
    return (1 - u) * a[face] + u * (1 - v) * b[face] + u * v * c[face]
