"""Kernels that cast rays into a procedural scene: what is met, and its exact depth.

A scene is a list of convex solids, each the unit box, ball or upright cylinder of its own affine frame, so that one
ray is tested by one matrix product and a few divisions. Rays have z = 1 in the camera's frame: their parameter is the
depth. All kernels are serial and release the GIL, so that threads make scenes side by side.
"""

from __future__ import annotations

import math
import typing

import numba
import numpy as np

from da3gs.rendering._jit import kernel

BOX, BALL, CYLINDER = 0, 1, 2
TILE = 8
_FAR = 1e30
# Helpers are inlined: an array argument is many words on the stack.
inlined = numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy", forceinline=True)


@inlined
@typing.no_type_check
def interval(kind, ox, oy, oz, dx, dy, dz) -> tuple:
    """Where the line o + t d enters and leaves the unit solid; enters later than it leaves when it misses."""
    if kind == BALL:
        a = dx * dx + dy * dy + dz * dz
        b = ox * dx + oy * dy + oz * dz
        c = ox * ox + oy * oy + oz * oz - 1.0
        disc = b * b - a * c
        if disc <= 0.0:
            return _FAR, -_FAR
        root = math.sqrt(disc)
        return (-b - root) / a, (-b + root) / a
    iz = 1.0 / dz if abs(dz) > 1e-12 else 1e12
    z1, z2 = (-1.0 - oz) * iz, (1.0 - oz) * iz
    near, far = min(z1, z2), max(z1, z2)
    if kind == BOX:
        ix = 1.0 / dx if abs(dx) > 1e-12 else 1e12
        iy = 1.0 / dy if abs(dy) > 1e-12 else 1e12
        x1, x2 = (-1.0 - ox) * ix, (1.0 - ox) * ix
        y1, y2 = (-1.0 - oy) * iy, (1.0 - oy) * iy
        near = max(near, max(min(x1, x2), min(y1, y2)))
        far = min(far, min(max(x1, x2), max(y1, y2)))
        return near, far
    a = max(dx * dx + dy * dy, 1e-20)
    b = ox * dx + oy * dy
    c = ox * ox + oy * oy - 1.0
    disc = b * b - a * c
    if disc <= 0.0:
        return _FAR, -_FAR
    root = math.sqrt(disc)
    return max(near, (-b - root) / a), min(far, (-b + root) / a)


@inlined
@typing.no_type_check
def nearest(first, last, order, kinds, inward, frames, origins, bounds, wx, wy, wz) -> tuple:
    """Depth and index of the first solid that the camera ray with world direction w meets; (far, -1) for none."""
    best, solid = _FAR, -1
    for slot in range(first, last):
        p = order[slot]
        if bounds[p] > best:
            break
        dx = frames[p, 0, 0] * wx + frames[p, 0, 1] * wy + frames[p, 0, 2] * wz
        dy = frames[p, 1, 0] * wx + frames[p, 1, 1] * wy + frames[p, 1, 2] * wz
        dz = frames[p, 2, 0] * wx + frames[p, 2, 1] * wy + frames[p, 2, 2] * wz
        near, far = interval(kinds[p], origins[p, 0], origins[p, 1], origins[p, 2], dx, dy, dz)
        if near <= far:
            t = far if inward[p] else near
            if 1e-3 < t < best:
                best, solid = t, p
    return best, solid


@kernel
@typing.no_type_check
def tiles(height, width, kinds, inward, frames, centers, radii, corners, world_to_cam, fx, fy, cx, cy) -> tuple:
    """For every tile the solids that may cover it, nearest bound first, and every solid's least depth."""
    count = kinds.shape[0]
    bounds = np.empty(count)
    left, right = np.empty(count), np.empty(count)
    top, bottom = np.empty(count), np.empty(count)
    for p in range(count):
        near = _FAR
        left[p], right[p], top[p], bottom[p] = _FAR, -_FAR, _FAR, -_FAR
        behind = inward[p]
        for k in range(8):
            x, y, z = corners[p, k, 0], corners[p, k, 1], corners[p, k, 2]
            w = world_to_cam
            zc = w[2, 0] * x + w[2, 1] * y + w[2, 2] * z + w[2, 3]
            near = min(near, zc)
            if zc < 1e-2:
                behind = True
                continue
            u = fx * (w[0, 0] * x + w[0, 1] * y + w[0, 2] * z + w[0, 3]) / zc + cx
            v = fy * (w[1, 0] * x + w[1, 1] * y + w[1, 2] * z + w[1, 3]) / zc + cy
            left[p], right[p] = min(left[p], u), max(right[p], u)
            top[p], bottom[p] = min(top[p], v), max(bottom[p], v)
        bounds[p] = 1e29 if inward[p] else near
        if behind:
            left[p], right[p], top[p], bottom[p] = -_FAR, _FAR, -_FAR, _FAR
            if not inward[p]:
                w = world_to_cam
                x, y, z = centers[p, 0], centers[p, 1], centers[p, 2]
                if w[2, 0] * x + w[2, 1] * y + w[2, 2] * z + w[2, 3] < -radii[p]:
                    left[p], right[p] = _FAR, -_FAR
    sorted_solids = np.argsort(bounds)
    rows, columns = (height + TILE - 1) // TILE, (width + TILE - 1) // TILE
    starts = np.zeros(rows * columns + 1, np.int64)
    order = np.empty(rows * columns * count, np.int32)
    filled = 0
    for r in range(rows):
        for c in range(columns):
            for k in range(count):
                p = sorted_solids[k]
                if right[p] < c * TILE or left[p] > (c + 1) * TILE or bottom[p] < r * TILE or top[p] > (r + 1) * TILE:
                    continue
                order[filled] = p
                filled += 1
            starts[r * columns + c + 1] = filled
    return starts, order, bounds


@inlined
@typing.no_type_check
def direction(u, v, fx, fy, cx, cy, cam_to_world) -> tuple:
    """World direction of the ray through pixel coordinates (u, v), of z = 1 in the camera."""
    x, y = (u - cx) / fx, (v - cy) / fy
    c = cam_to_world
    return (
        c[0, 0] * x + c[0, 1] * y + c[0, 2],
        c[1, 0] * x + c[1, 1] * y + c[1, 2],
        c[2, 0] * x + c[2, 1] * y + c[2, 2],
    )


@kernel
@typing.no_type_check
def origins_of(frames, centers, cam_to_world) -> np.ndarray:
    """The camera's centre in every unit solid's frame."""
    origins = np.zeros((frames.shape[0], 3))
    for p in range(frames.shape[0]):
        for i in range(3):
            for j in range(3):
                origins[p, i] += frames[p, i, j] * (cam_to_world[j, 3] - centers[p, j])
    return origins


@kernel
@typing.no_type_check
def cast_depth(
    height, width, kinds, inward, frames, centers, radii, corners, halves, cam_to_world, world_to_cam, focal, point
) -> tuple:
    """Depth of every pixel centre (0 where nothing is met) and what is met: 8 * solid + face, or -1."""
    fx, fy, cx, cy = focal[0], focal[1], point[0], point[1]
    starts, order, bounds = tiles(
        height, width, kinds, inward, frames, centers, radii, corners, world_to_cam, fx, fy, cx, cy
    )
    origins = origins_of(frames, centers, cam_to_world)
    columns = (width + TILE - 1) // TILE
    depth = np.zeros((height, width), np.float32)
    met = np.full((height, width), -1, np.int32)
    for i in range(height):
        for j in range(width):
            tile = (i // TILE) * columns + j // TILE
            wx, wy, wz = direction(j + 0.5, i + 0.5, fx, fy, cx, cy, cam_to_world)
            t, p = nearest(starts[tile], starts[tile + 1], order, kinds, inward, frames, origins, bounds, wx, wy, wz)
            if p >= 0:
                depth[i, j] = t
                lx = origins[p, 0] + t * (frames[p, 0, 0] * wx + frames[p, 0, 1] * wy + frames[p, 0, 2] * wz)
                ly = origins[p, 1] + t * (frames[p, 1, 0] * wx + frames[p, 1, 1] * wy + frames[p, 1, 2] * wz)
                lz = origins[p, 2] + t * (frames[p, 2, 0] * wx + frames[p, 2, 1] * wy + frames[p, 2, 2] * wz)
                face = 0
                if kinds[p] == CYLINDER and lx * lx + ly * ly < lz * lz:
                    face = 4 if lz > 0 else 5
                elif kinds[p] == BOX:
                    ax, ay, az = abs(lx), abs(ly), abs(lz)
                    if ax >= ay and ax >= az:
                        face = 0 if lx > 0 else 1
                    elif ay >= az:
                        face = 2 if ly > 0 else 3
                    else:
                        face = 4 if lz > 0 else 5
                met[i, j] = 8 * p + face
    return depth, met
