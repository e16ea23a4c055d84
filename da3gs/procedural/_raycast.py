"""Kernels that cast rays into a procedural scene: what is met, and its exact depth.

A scene is a list of convex solids, each the unit box, ball or upright cylinder of its own affine frame, so that one
ray is tested by one matrix product and a few divisions. Rays have z = 1 in the camera's frame: their parameter is the
depth. A picture is worked on in tiles: the rays of a tile go through each solid that may cover it side by side, in
loops without branches, which the compiler turns into vector instructions (it gives up where a loop writes and reads
more arrays than it can tell apart: hence many short loops). All kernels are serial and release the GIL, so that
threads make scenes side by side.
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
def _slab(o, d) -> tuple:
    """Where the line o + t d lies between -1 and 1."""
    inverse = 1.0 / (d if abs(d) > 1e-12 else 1e-12)
    one, two = (-1.0 - o) * inverse, (1.0 - o) * inverse
    return min(one, two), max(one, two)


@inlined
@typing.no_type_check
def in_box(ox, oy, oz, dx, dy, dz) -> tuple:
    """Where the line o + t d enters and leaves the unit box; enters later than it leaves when it misses."""
    x1, x2 = _slab(ox, dx)
    y1, y2 = _slab(oy, dy)
    z1, z2 = _slab(oz, dz)
    return max(x1, max(y1, z1)), min(x2, min(y2, z2))


@inlined
@typing.no_type_check
def in_ball(ox, oy, oz, dx, dy, dz) -> tuple:
    """The same for the unit ball."""
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    disc = b * b - a * (ox * ox + oy * oy + oz * oz - 1.0)
    root = math.sqrt(max(disc, 0.0))
    return ((-b - root) / a if disc > 0.0 else _FAR), (-b + root) / a


@inlined
@typing.no_type_check
def in_cylinder(ox, oy, oz, dx, dy, dz) -> tuple:
    """The same for the unit cylinder about z."""
    a = max(dx * dx + dy * dy, 1e-20)
    b = ox * dx + oy * dy
    disc = b * b - a * (ox * ox + oy * oy - 1.0)
    root = math.sqrt(max(disc, 0.0))
    z1, z2 = _slab(oz, dz)
    return (max(z1, (-b - root) / a) if disc > 0.0 else _FAR), min(z2, (-b + root) / a)


@kernel
@typing.no_type_check
def meet(first, last, order, bounds, kinds, inward, frames, origins, n, wx, wy, wz, depth, solid) -> None:
    """Of n camera rays with world directions w: depth and index of the solid met first (-1 for none).

    The solids are those of ``order[first:last]``, by their least depth.
    """
    for k in range(n):
        depth[k], solid[k] = _FAR, -1
    for slot in range(first, last):
        p = np.int64(order[slot])
        deeper = 0
        for k in range(n):
            deeper += depth[k] > bounds[p]
        if deeper == 0:
            break
        f = frames[p]
        a, b, c, d, e, g, h, i, j = f[0, 0], f[0, 1], f[0, 2], f[1, 0], f[1, 1], f[1, 2], f[2, 0], f[2, 1], f[2, 2]
        ox, oy, oz, inside = origins[p, 0], origins[p, 1], origins[p, 2], inward[p]
        if kinds[p] == BOX:
            for k in range(n):
                x, y, z = wx[k], wy[k], wz[k]
                near, far = in_box(ox, oy, oz, a * x + b * y + c * z, d * x + e * y + g * z, h * x + i * y + j * z)
                t = far if inside else near
                closer = (near <= far) & (t > 1e-3) & (t < depth[k])
                depth[k], solid[k] = (t if closer else depth[k]), (p if closer else solid[k])
        elif kinds[p] == BALL:
            for k in range(n):
                x, y, z = wx[k], wy[k], wz[k]
                near, far = in_ball(ox, oy, oz, a * x + b * y + c * z, d * x + e * y + g * z, h * x + i * y + j * z)
                t = far if inside else near
                closer = (near <= far) & (t > 1e-3) & (t < depth[k])
                depth[k], solid[k] = (t if closer else depth[k]), (p if closer else solid[k])
        else:
            for k in range(n):
                x, y, z = wx[k], wy[k], wz[k]
                near, far = in_cylinder(ox, oy, oz, a * x + b * y + c * z, d * x + e * y + g * z, h * x + i * y + j * z)
                t = far if inside else near
                closer = (near <= far) & (t > 1e-3) & (t < depth[k])
                depth[k], solid[k] = (t if closer else depth[k]), (p if closer else solid[k])


@kernel
@typing.no_type_check
def tiles(height, width, kinds, inward, centers, radii, corners, world_to_cam, focal, point) -> tuple:
    """For every tile the solids that may cover it, nearest bound first, and every solid's least depth."""
    fx, fy, cx, cy = focal[0], focal[1], point[0], point[1]
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
        bounds[p] = 0.0 if inward[p] else near  # what has one on every ray comes first: it ends the search early
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
def directions(n, u, v, focal, point, cam_to_world, wx, wy, wz) -> None:
    """World directions of the rays through pixel coordinates (u, v), of z = 1 in the camera."""
    for axis, out in enumerate((wx, wy, wz)):
        a, b = cam_to_world[axis, 0] / focal[0], cam_to_world[axis, 1] / focal[1]
        c = cam_to_world[axis, 2] - a * point[0] - b * point[1]
        for k in range(n):
            out[k] = a * u[k] + b * v[k] + c


@kernel
@typing.no_type_check
def codes(n, kinds, frames, origins, wx, wy, wz, depth, solid) -> None:
    """Each solid that was met becomes 8 * solid + face; -1 stays.

    Faces are 0 to 5 (+x, -x, +y, -y, +z, -z); what is round is face 0.
    """
    for k in range(n):
        p = solid[k]
        if p < 0 or kinds[p] == BALL:
            solid[k] = max(8 * p, -1)
            continue
        f, t = frames[p], depth[k]
        x = origins[p, 0] + t * (f[0, 0] * wx[k] + f[0, 1] * wy[k] + f[0, 2] * wz[k])
        y = origins[p, 1] + t * (f[1, 0] * wx[k] + f[1, 1] * wy[k] + f[1, 2] * wz[k])
        z = origins[p, 2] + t * (f[2, 0] * wx[k] + f[2, 1] * wy[k] + f[2, 2] * wz[k])
        face = 0
        if kinds[p] == CYLINDER:
            if x * x + y * y < z * z:
                face = 4 if z > 0 else 5
        elif abs(x) >= abs(y) and abs(x) >= abs(z):
            face = 0 if x > 0 else 1
        elif abs(y) >= abs(z):
            face = 2 if y > 0 else 3
        else:
            face = 4 if z > 0 else 5
        solid[k] = 8 * p + face


@kernel
@typing.no_type_check
def cast_depth(
    height, width, kinds, inward, frames, centers, radii, corners, cam_to_world, world_to_cam, focal, point
) -> tuple:
    """Depth of every pixel centre (0 where nothing is met) and what is met: 8 * solid + face, or -1."""
    starts, order, bounds = tiles(height, width, kinds, inward, centers, radii, corners, world_to_cam, focal, point)
    origins = origins_of(frames, centers, cam_to_world)
    columns = (width + TILE - 1) // TILE
    depth = np.zeros((height, width), np.float32)
    met = np.full((height, width), -1, np.int32)
    rows = np.empty((6, TILE * TILE))
    u, v, wx, wy, wz, t = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    solid = np.empty(TILE * TILE, np.int64)
    for tile in range(len(starts) - 1):
        top, left = tile // columns * TILE, tile % columns * TILE
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        n = 0
        for i in range(top, bottom):
            for j in range(left, right):
                u[n], v[n] = j + 0.5, i + 0.5
                n += 1
        directions(n, u, v, focal, point, cam_to_world, wx, wy, wz)
        meet(starts[tile], starts[tile + 1], order, bounds, kinds, inward, frames, origins, n, wx, wy, wz, t, solid)
        codes(n, kinds, frames, origins, wx, wy, wz, t, solid)
        n = 0
        for i in range(top, bottom):
            for j in range(left, right):
                if solid[n] >= 0:
                    depth[i, j], met[i, j] = t[n], solid[n]
                n += 1
    return depth, met
