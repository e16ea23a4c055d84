"""The kernel that projects splats onto the screen.

A projected splat is a record of 16 floats, one cache line: centre u v, the factor l11 l21 l22 of its exponent, log2 of
its opacity, red green blue, depth, and as integers the first and last column and row of its box. In base 2 its alpha at
(x, y) is ``2^(log2 opacity - p² - s²)`` with ``p = l11 (x - u) + l21 (y - v)`` and ``s = l22 (y - v)``: a sum of
squares, which unlike the conic form never turns negative by rounding.
"""

from __future__ import annotations

import math
import typing

import numpy as np

from da3gs.rendering._jit import inline, kernel
from da3gs.rendering._simd import (
    above,
    any_of,
    at_least,
    below,
    both,
    broadcast,
    load,
    load_every_fourth,
    load_every_third,
    select,
    store,
    take_next,
)
from da3gs.rendering._simd_layout import store_records, store_tiles, whole_bits
from da3gs.rendering._simd_math import ceiling, floor, larger, log2, smaller, square_root

RECORD = 16
TILE = 16

NEAR = np.float32(0.01)
FAR = np.float32(1e10)
BLUR = np.float32(0.3)
ALPHA_MIN = np.float32(1 / 255)
CUT = np.float32(math.log2(1 / 255))
_HALF_LOG2E = np.float32(0.5 / math.log(2))
_TWO_LN2 = np.float32(2 * math.log(2))
_HUGE = np.float32(3e38)
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_MARGIN = np.float32(1e-3)
_C0 = np.float32(0.28209479177387814)
_C1 = np.float32(0.4886025119029199)
_C2 = tuple(np.float32(c) for c in (1.0925484305920792, 0.31539156525252005, 0.5462742152960396))
_C3 = tuple(
    np.float32(c)
    for c in (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)
)
_BASIS, _RED = 0, 16
"""Rows of 16 lanes: the harmonics, then red, green, blue."""
_ROWS = 19


@inline
@typing.no_type_check
def store_basis(rows, at, bands, x, y, z) -> None:
    """Write the spherical harmonics of 16 unit directions, a row of 16 lanes each."""
    store(rows, at, broadcast(_C0))
    if bands >= 4:
        store(rows, at + 16, -_C1 * y)
        store(rows, at + 32, _C1 * z)
        store(rows, at + 48, -_C1 * x)
    if bands >= 9:
        xx, yy, zz = x * x, y * y, z * z
        store(rows, at + 64, _C2[0] * x * y)
        store(rows, at + 80, -_C2[0] * y * z)
        store(rows, at + 96, _C2[1] * (_TWO * zz - xx - yy))
        store(rows, at + 112, -_C2[0] * x * z)
        store(rows, at + 128, _C2[2] * (xx - yy))
        if bands >= 16:
            three, four = np.float32(3), np.float32(4)
            r = four * zz - xx - yy
            store(rows, at + 144, -_C3[0] * y * (three * xx - yy))
            store(rows, at + 160, _C3[1] * x * y * z)
            store(rows, at + 176, -_C3[2] * y * r)
            store(rows, at + 192, _C3[3] * z * (_TWO * zz - three * xx - three * yy))
            store(rows, at + 208, -_C3[2] * x * r)
            store(rows, at + 224, _C3[4] * z * (xx - yy))
            store(rows, at + 240, -_C3[0] * x * (xx - three * yy))


@inline
@typing.no_type_check
def rotation_rows(w, x, y, z) -> tuple:
    """The nine entries of the rotation matrix; NaN for a zero quaternion."""
    s = _TWO / (w * w + x * x + y * y + z * z)
    return (
        _ONE - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w),
        s * (x * y + z * w), _ONE - s * (x * x + z * z), s * (y * z - x * w),
        s * (x * z - y * w), s * (y * z + x * w), _ONE - s * (x * x + y * y),
    )  # fmt: skip


@inline
@typing.no_type_check
def projection_rows(camera, x, y, inverse) -> tuple:
    """The derivative of pixel coordinates by world coordinates (2 x 3), at a camera-space point near the picture.

    Far outside the picture the linear approximation of the projection explodes; like gsplat, the point is moved to at
    most 0.3 half fields of view beyond the border. ``inverse`` is 1 / z.
    """
    tx = smaller(larger(x * inverse, -camera[17]), camera[18])
    ty = smaller(larger(y * inverse, -camera[19]), camera[20])
    a = camera[12] * inverse
    b = camera[14] * inverse
    c = (camera[12] * tx + camera[14] * ty) * inverse
    d = camera[13] * inverse
    e = camera[13] * ty * inverse
    return (
        a * camera[0] + b * camera[3] - c * camera[6],
        a * camera[1] + b * camera[4] - c * camera[7],
        a * camera[2] + b * camera[5] - c * camera[8],
        d * camera[3] - e * camera[6],
        d * camera[4] - e * camera[7],
        d * camera[5] - e * camera[8],
    )


@inline
@typing.no_type_check
def spread(p, r, sx, sy, sz) -> tuple:
    """The splat's axes on the screen (2 x 3): projection rows times rotation times scales."""
    return (
        (p[0] * r[0] + p[1] * r[3] + p[2] * r[6]) * sx,
        (p[0] * r[1] + p[1] * r[4] + p[2] * r[7]) * sy,
        (p[0] * r[2] + p[1] * r[5] + p[2] * r[8]) * sz,
        (p[3] * r[0] + p[4] * r[3] + p[5] * r[6]) * sx,
        (p[3] * r[1] + p[4] * r[4] + p[5] * r[7]) * sy,
        (p[3] * r[2] + p[4] * r[5] + p[5] * r[8]) * sz,
    )


@inline
@typing.no_type_check
def determinant(v) -> object:
    """Of the covariance v vᵀ on the screen, as a sum of squares (Cauchy-Binet): without cancellation."""
    m, n, o = v[0] * v[4] - v[1] * v[3], v[0] * v[5] - v[2] * v[3], v[1] * v[5] - v[2] * v[4]
    return m * m + n * n + o * o


@inline
@typing.no_type_check
def _pixels(center, radius, size) -> tuple:
    """The first and last pixel with ``|i + 1/2 - center| <= radius``, a hair more, inside the picture."""
    radius = radius * (_ONE + _MARGIN) + (_MARGIN - _HALF)
    return ceiling(larger(center - radius - _ONE, _ZERO)), floor(smaller(center + radius, np.float32(size - 1)))


@inline
@typing.no_type_check
def _project_sixteen(
    at, means, scales, quaternions, opacities, harmonics, bands, camera, height, width, antialias, rows,
    first, lanes, records, tiles,
) -> None:  # fmt: skip
    """Project the splats that stand from ``at`` on, and write their records and tiles from ``first`` on.

    NaN fails every comparison here, so it is never seen. Records are written for 16 splats, seen or not.
    """
    mx, my, mz = (load_every_third(means, 3 * at), load_every_third(means, 3 * at + 1),
                  load_every_third(means, 3 * at + 2))  # fmt: skip
    x = camera[0] * mx + camera[1] * my + camera[2] * mz + camera[9]
    y = camera[3] * mx + camera[4] * my + camera[5] * mz + camera[10]
    z = camera[6] * mx + camera[7] * my + camera[8] * mz + camera[11]
    opacity = load(opacities, at)
    seen = both(both(at_least(z, NEAR), above(FAR - z, _ZERO)), at_least(opacity, ALPHA_MIN))
    if not any_of(seen):
        store_tiles(tiles, 4 * first, x, x, x, x, seen)
        return
    inverse = _ONE / z
    v = spread(
        projection_rows(camera, x, y, inverse),
        rotation_rows(load_every_fourth(quaternions, 4 * at), load_every_fourth(quaternions, 4 * at + 1),
                      load_every_fourth(quaternions, 4 * at + 2), load_every_fourth(quaternions, 4 * at + 3)),
        load_every_third(scales, 3 * at), load_every_third(scales, 3 * at + 1), load_every_third(scales, 3 * at + 2),
    )  # fmt: skip
    uu = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
    uv = v[0] * v[3] + v[1] * v[4] + v[2] * v[5]
    vv = v[3] * v[3] + v[4] * v[4] + v[5] * v[5]
    sharp = determinant(v)
    blurred = sharp + BLUR * (uu + vv) + BLUR * BLUR
    seen = both(seen, both(above(_HUGE - blurred, _ZERO), above(uu + vv, _ZERO)))
    uu, vv = uu + BLUR, vv + BLUR
    if antialias:
        opacity = opacity * square_root(sharp / blurred)
        seen = both(seen, at_least(opacity, ALPHA_MIN))
    seen = both(seen, above(_HUGE - opacity, _ZERO))
    power = log2(opacity)
    reach = _TWO_LN2 * larger(power - CUT, _ZERO)
    u = (camera[12] * x + camera[14] * y) * inverse + camera[15]
    w = camera[13] * y * inverse + camera[16]
    left, right = _pixels(u, square_root(reach * uu), width)
    top, bottom = _pixels(w, square_root(reach * vv), height)
    seen = both(seen, both(at_least(right - left, _ZERO), at_least(bottom - top, _ZERO)))
    if not any_of(seen):
        store_tiles(tiles, 4 * first, x, x, x, x, seen)
        return
    red, green, blue = _colors(
        (mx - camera[21], my - camera[22], mz - camera[23]), 3 * bands * first, lanes, rows, harmonics, bands
    )
    finite = both(both(below(red, _HUGE), below(green, _HUGE)), below(blue, _HUGE))
    lowest = smaller(red, smaller(green, blue))
    seen = both(seen, both(finite, above(lowest, -_HUGE)))
    zero = broadcast(_ZERO)
    left, right = select(seen, left, zero), select(seen, right, zero)
    top, bottom = select(seen, top, zero), select(seen, bottom, zero)
    l11 = square_root(_HALF_LOG2E * vv / blurred)
    here = (
        u, w, l11, zero - l11 * uv / vv, square_root(_HALF_LOG2E / vv), power,
        larger(red, zero), larger(green, zero), larger(blue, zero), z,
        whole_bits(left), whole_bits(right), whole_bits(top), whole_bits(bottom), zero, zero,
    )  # fmt: skip
    store_records(records, RECORD * first, here)
    store_tiles(tiles, 4 * first, left, right, top, bottom, seen)


@inline
@typing.no_type_check
def _colors(offset, first, lanes, rows, harmonics, bands) -> tuple:
    """Red, green and blue before clamping, from the offset to the camera and the harmonics from ``first`` on."""
    x, y, z = offset
    shrink = _ONE / square_root(x * x + y * y + z * z)
    store_basis(rows, 16 * _BASIS, bands, x * shrink, y * shrink, z * shrink)
    for lane in range(lanes):
        red, green, blue = _HALF, _HALF, _HALF
        at = first + 3 * bands * lane
        for band in range(bands):
            weight = rows[16 * (_BASIS + band) + lane]
            red += weight * harmonics[at]
            green += weight * harmonics[at + 1]
            blue += weight * harmonics[at + 2]
            at += 3
        rows[16 * _RED + lane], rows[16 * _RED + 16 + lane], rows[16 * _RED + 32 + lane] = red, green, blue
    return load(rows, 16 * _RED), load(rows, 16 * _RED + 16), load(rows, 16 * _RED + 32)


@inline
@typing.no_type_check
def copy_few(few, at, number, means, scales, quaternions, opacities) -> None:
    """Copy the splats from ``at`` on, fewer than 16, to where 16 can be read."""
    for j in range(number - at):
        few[3][j] = opacities[at + j]
        for axis in range(3):
            few[0][3 * j + axis] = means[3 * (at + j) + axis]
            few[1][3 * j + axis] = scales[3 * (at + j) + axis]
        for part in range(4):
            few[2][4 * j + part] = quaternions[4 * (at + j) + part]


@kernel
@typing.no_type_check
def project(
    counter, pieces, means, scales, quaternions, opacities, harmonics, bands, camera, size, antialias,
    records, tiles, counts, across,
) -> None:  # fmt: skip
    """Project every splat of the pieces that this thread takes, and count the splats of each tile by piece.

    All arrays of splats are flat; ``records`` and ``tiles`` have room for a multiple of 16 splats, and pieces begin at
    multiples of 16. Each lane is computed alike whatever its neighbours are.
    """
    height, width = size
    number = opacities.shape[0]
    groups = (number + 15) // 16
    rows = np.empty(16 * _ROWS, np.float32)
    few = (np.zeros(48, np.float32), np.zeros(48, np.float32), np.zeros(64, np.float32), np.zeros(16, np.float32))
    while True:
        piece = take_next(counter)
        if piece >= pieces:
            return
        count = counts[piece]
        count[:] = 0
        for group in range(piece * groups // pieces, (piece + 1) * groups // pieces):
            at = 16 * group
            lanes = min(16, number - at)
            if lanes == 16:
                _project_sixteen(
                    at, means, scales, quaternions, opacities, harmonics, bands, camera, height, width, antialias, rows,
                    at, 16, records, tiles,
                )  # fmt: skip
            else:
                copy_few(few, at, number, means, scales, quaternions, opacities)
                _project_sixteen(
                    0, few[0], few[1], few[2], few[3], harmonics, bands, camera, height, width, antialias, rows,
                    at, lanes, records, tiles,
                )  # fmt: skip
            for i in range(4 * at, 4 * (at + lanes), 4):
                for row in range(tiles[i + 2], tiles[i + 3]):
                    for column in range(tiles[i], tiles[i + 1]):
                        count[row * across + column] += 1
