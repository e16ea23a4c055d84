"""Kernels that colour what rays meet: textures and the light on them, for the samples of one face in a tile at once."""

from __future__ import annotations

import math
import typing

import numpy as np

from da3gs.procedural._lighting import lamps, open_sky
from da3gs.procedural._raycast import BALL, BOX, CYLINDER, TILE, codes, directions, inlined, meet, origins_of, tiles
from da3gs.procedural._texturing import coordinates, paint, wide_texels
from da3gs.rendering._jit import kernel

_SKY_REACH = 0.6  # how far things darken each other where light comes from everywhere, metres


@inlined
@typing.no_type_check
def _fading(x) -> float:
    """exp(-x) for x from 0 to 20 or so, as products that go into vector instructions."""
    y = min(x, 20.0) * 0.03125
    e = 1.0 + y * (1.0 + y * (0.5 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120)))))
    e *= e
    e *= e
    e *= e
    e *= e
    return 1.0 / (e * e)


@kernel
@typing.no_type_check
def _corners(n, dark, lx, ly, lz, face, half, shade) -> None:
    """Darken the inside of a room's box towards its other walls."""
    for axis, local in enumerate((lx, ly, lz)):
        if face // 2 != axis:
            wide = half[axis] / 0.3
            for k in range(n):
                shade[k] *= 1.0 - dark * _fading((1.0 - abs(local[k])) * wide)


@kernel
@typing.no_type_check
def _normals(n, kind, face, inside, frame, lx, ly, lz, rows, nx, ny, nz) -> None:
    """World normals, of unit length and towards the camera's side, at local points (lx, ly, lz) of a face."""
    inverse = rows[0]
    around = 1.0 if kind == BALL or (kind == CYLINDER and face == 0) else 0.0  # the normal follows x and y
    upward = 1.0 if kind == BALL else 0.0  # and z
    sign = 1.0 if face % 2 == 0 else -1.0
    flat = np.zeros(3)
    if around == 0.0:
        flat[face // 2] = sign
    a, b, c = flat[0], flat[1], flat[2]
    f = frame
    f00, f01, f02, f10, f11, f12 = f[0, 0], f[0, 1], f[0, 2], f[1, 0], f[1, 1], f[1, 2]
    f20, f21, f22 = f[2, 0], f[2, 1], f[2, 2]
    outward = -1.0 if inside else 1.0
    for k in range(n):
        x, y, z = around * lx[k] + a, around * ly[k] + b, upward * lz[k] + c
        wx, wy, wz = f00 * x + f10 * y + f20 * z, f01 * x + f11 * y + f21 * z, f02 * x + f12 * y + f22 * z
        inverse[k] = outward / (math.sqrt(wx * wx + wy * wy + wz * wz) + 1e-30)
    for axis, out in enumerate((nx, ny, nz)):
        d, e, g = f[0, axis], f[1, axis], f[2, axis]
        for k in range(n):
            out[k] = (d * (around * lx[k] + a) + e * (around * ly[k] + b) + g * (upward * lz[k] + c)) * inverse[k]


@kernel
@typing.no_type_check
def _shade(
    n, p, face, u, v, t, fine, key, kinds, inward, frames, centers, radii, halves, gloss, faces, materials, mixes,
    lights, ambient, corner_shade, atlas, size, level_starts, origins, cam_to_world, focal, point, shadows, sky_rays,
    rows,
) -> None:  # fmt: skip
    """Linear colours of n samples on one face, into the first three rows.

    ``u``, ``v``, ``t``: pixel coordinates and depth; ``fine``: the width of a sample in pixels.
    """
    red, green, blue = rows[0], rows[1], rows[2]
    wx, wy, wz, px, py, pz, lx, ly, lz = (
        rows[3],
        rows[4],
        rows[5],
        rows[6],
        rows[7],
        rows[8],
        rows[9],
        rows[10],
        rows[11],
    )
    nx, ny, nz, tu, tv, wide, shade = rows[12], rows[13], rows[14], rows[15], rows[16], rows[17], rows[18]
    dull, shiny, free = rows[19:22], rows[22:25], rows[25:]
    kind, frame, half = kinds[p], frames[p], halves[p]
    directions(n, u, v, focal, point, cam_to_world, wx, wy, wz)
    for axis, out in enumerate((lx, ly, lz)):
        o, a, b, c = origins[p, axis], frame[axis, 0], frame[axis, 1], frame[axis, 2]
        for k in range(n):
            out[k] = o + t[k] * (a * wx[k] + b * wy[k] + c * wz[k])
    _normals(n, kind, face, inward[p], frame, lx, ly, lz, free, nx, ny, nz)
    own, material = faces[p, face], materials[faces[p, face]]
    coordinates(n, kind, face, half, material, lx, ly, lz, free, tu, tv)
    wide_texels(n, material, half, focal, wx, wy, wz, nx, ny, nz, t, fine, wide)
    paint(n, material, mixes[own], atlas, size, level_starts, tu, tv, wide, red, green, blue)
    if material[6] > 0.0:  # what glows (screens, windows, sky) needs no light
        return
    for axis, out in enumerate((px, py, pz)):  # rays of light start just above the surface
        o, w, normal = cam_to_world[axis, 3], rows[3 + axis], rows[12 + axis]
        for k in range(n):
            out[k] = o + t[k] * w[k] + 2e-3 * normal[k]
    for channel in range(3):
        above, below, out = ambient[0, channel], ambient[1, channel], dull[channel]
        for k in range(n):
            out[k] = below + (above - below) * (0.5 + 0.5 * nz[k])
    shiny[:, :n] = 0.0
    lamps(
        n, px, py, pz, nx, ny, nz, cam_to_world[:3, 3], gloss[p], lights, shadows, key,
        kinds, inward, frames, centers, radii, free, dull, shiny,
    )  # fmt: skip
    for k in range(n):
        shade[k] = 1.0
    if inward[p] and kind == BOX:
        _corners(n, corner_shade, lx, ly, lz, face, half, shade)
    if sky_rays > 0:
        open_sky(
            n, px, py, pz, nx, ny, nz, _SKY_REACH, sky_rays, key, kinds, inward, frames, centers, radii, free, wide
        )
        for k in range(n):
            shade[k] *= 0.25 + 0.75 * wide[k]
    for channel, out in enumerate((red, green, blue)):
        diffuse, glossy = dull[channel], shiny[channel]
        for k in range(n):
            out[k] = out[k] * diffuse[k] * shade[k] + glossy[k]


@kernel
@typing.no_type_check
def _even(met) -> np.ndarray:
    """Whether a pixel and its eight neighbours meet the same face of the same solid."""
    height, width = met.shape
    rows = np.zeros((height, width), np.bool_)
    even = np.zeros((height, width), np.bool_)
    for i in range(height):
        for j in range(1, width - 1):
            rows[i, j] = (met[i, j - 1] == met[i, j]) & (met[i, j] == met[i, j + 1])
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            alike = (met[i - 1, j] == met[i, j]) & (met[i, j] == met[i + 1, j])
            even[i, j] = alike & rows[i - 1, j] & rows[i, j] & rows[i + 1, j]
    return even


@kernel
@typing.no_type_check
def _taken(this, n, samples, marks) -> int:
    """Of n samples move those with the code ``this`` to the other half of the rows, and close the gaps they leave.

    Returns:
        How many there are.
    """
    u, v, t, fine = samples[0], samples[1], samples[2], samples[3]
    own_u, own_v, own_t, own_fine = samples[4], samples[5], samples[6], samples[7]
    code, pixel, key, own_pixel, own_key = marks[0], marks[1], marks[2], marks[3], marks[4]
    count = rest = 0
    for k in range(n):
        if code[k] == this:
            own_u[count], own_v[count], own_t[count], own_fine[count] = u[k], v[k], t[k], fine[k]
            own_pixel[count], own_key[count] = pixel[k], key[k]
            count += 1
        else:
            u[rest], v[rest], t[rest], fine[rest] = u[k], v[k], t[k], fine[k]
            pixel[rest], key[rest], code[rest] = pixel[k], key[k], code[k]
            rest += 1
    return count


@kernel
@typing.no_type_check
def cast_color(
    height, width, kinds, inward, frames, centers, radii, corners, halves, gloss, faces, materials, mixes,
    lights, ambient, corner_shade, atlas, size, level_starts, cam_to_world, world_to_cam, focal, point,
    depth, met, side, everywhere, shadows, sky_rays, seed,
) -> np.ndarray:  # fmt: skip
    """Linear colour of every pixel from side x side samples; black where nothing is met.

    Unless ``everywhere`` is set, pixels inside a face take one sample at their centre (the depth and the solid met
    there are known): textures are filtered anyway.
    """
    starts, order, bounds = tiles(height, width, kinds, inward, centers, radii, corners, world_to_cam, focal, point)
    origins = origins_of(frames, centers, cam_to_world)
    columns = (width + TILE - 1) // TILE
    color = np.zeros((height, width, 3), np.float32)
    even = _even(met)
    most = TILE * TILE * side * side
    rows = np.empty((31, most))
    samples = np.empty((8, most))
    u, v, t, fine = samples[0], samples[1], samples[2], samples[3]
    own_u, own_v, own_t, own_fine = samples[4], samples[5], samples[6], samples[7]
    marks = np.empty((5, most), np.int64)
    code, pixel, key, own_pixel, own_key = marks[0], marks[1], marks[2], marks[3], marks[4]
    for tile in range(len(starts) - 1):
        top, left = tile // columns * TILE, tile % columns * TILE
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        n = 0
        for i in range(top, bottom):
            for j in range(left, right):
                if everywhere or not even[i, j]:
                    for s in range(side * side):
                        u[n], v[n] = j + (s % side + 0.5) / side, i + (s // side + 0.5) / side
                        fine[n], pixel[n], key[n] = 1.0 / side, i * width + j, ((seed * 31 + i) * 4099 + j) * 64 + s
                        n += 1
        wx, wy, wz = rows[0], rows[1], rows[2]
        directions(n, u, v, focal, point, cam_to_world, wx, wy, wz)
        meet(starts[tile], starts[tile + 1], order, bounds, kinds, inward, frames, origins, n, wx, wy, wz, t, code)
        codes(n, kinds, frames, origins, wx, wy, wz, t, code)
        if not everywhere:
            for i in range(top, bottom):
                for j in range(left, right):
                    if even[i, j]:
                        u[n], v[n], t[n], code[n] = j + 0.5, i + 0.5, depth[i, j], met[i, j]
                        fine[n], pixel[n], key[n] = 1.0, i * width + j, ((seed * 31 + i) * 4099 + j) * 64
                        n += 1
        while n > 0:  # all samples of one face, then those of the next
            this = code[n - 1]
            count = _taken(this, n, samples, marks)
            n -= count
            if this < 0:
                continue
            _shade(
                count, this // 8, this % 8, own_u, own_v, own_t, own_fine, own_key, kinds, inward, frames, centers,
                radii, halves, gloss, faces, materials, mixes, lights, ambient, corner_shade, atlas, size,
                level_starts, origins, cam_to_world, focal, point, shadows, sky_rays, rows,
            )  # fmt: skip
            for k in range(count):
                i, j, share = own_pixel[k] // width, own_pixel[k] % width, own_fine[k] * own_fine[k]
                color[i, j, 0] += share * rows[0, k]
                color[i, j, 1] += share * rows[1, k]
                color[i, j, 2] += share * rows[2, k]
    return color
