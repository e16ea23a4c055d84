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
from da3gs.rendering._simd import take_next

RECORD = 16
TILE = 16

NEAR = np.float32(0.01)
FAR = np.float32(1e10)
BLUR = np.float32(0.3)
ALPHA_MIN = np.float32(1 / 255)
CUT = np.float32(math.log2(1 / 255))
_HALF_LOG2E = np.float32(0.5 / math.log(2))
_LOG2E = np.float32(1 / math.log(2))
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


@inline
@typing.no_type_check
def _add(color, weight, row) -> tuple:
    return (
        color[0] + weight * row[0],
        color[1] + weight * row[1],
        color[2] + weight * row[2],
    )


@inline
@typing.no_type_check
def view_color(harmonics, x, y, z) -> tuple:
    """Σ_k Y_k(x, y, z) harmonics[k] + 1/2 for a unit direction, not yet clamped."""
    color = _add((_HALF, _HALF, _HALF), _C0, harmonics[0])
    bands = harmonics.shape[0]
    if bands >= 4:
        color = _add(color, -_C1 * y, harmonics[1])
        color = _add(color, _C1 * z, harmonics[2])
        color = _add(color, -_C1 * x, harmonics[3])
    if bands >= 9:
        xx, yy, zz = x * x, y * y, z * z
        color = _add(color, _C2[0] * x * y, harmonics[4])
        color = _add(color, -_C2[0] * y * z, harmonics[5])
        color = _add(color, _C2[1] * (_TWO * zz - xx - yy), harmonics[6])
        color = _add(color, -_C2[0] * x * z, harmonics[7])
        color = _add(color, _C2[2] * (xx - yy), harmonics[8])
        if bands >= 16:
            three, four = np.float32(3), np.float32(4)
            r = four * zz - xx - yy
            color = _add(color, -_C3[0] * y * (three * xx - yy), harmonics[9])
            color = _add(color, _C3[1] * x * y * z, harmonics[10])
            color = _add(color, -_C3[2] * y * r, harmonics[11])
            color = _add(color, _C3[3] * z * (_TWO * zz - three * xx - three * yy), harmonics[12])
            color = _add(color, -_C3[2] * x * r, harmonics[13])
            color = _add(color, _C3[4] * z * (xx - yy), harmonics[14])
            color = _add(color, -_C3[0] * x * (xx - three * yy), harmonics[15])
    return color


@inline
@typing.no_type_check
def rotation_rows(quaternion) -> tuple:
    """The nine entries of the rotation matrix; NaN for a zero quaternion."""
    w, x, y, z = quaternion[0], quaternion[1], quaternion[2], quaternion[3]
    s = _TWO / (w * w + x * x + y * y + z * z)
    return (
        _ONE - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w),
        s * (x * y + z * w), _ONE - s * (x * x + z * z), s * (y * z - x * w),
        s * (x * z - y * w), s * (y * z + x * w), _ONE - s * (x * x + y * y),
    )  # fmt: skip


@inline
@typing.no_type_check
def projection_rows(camera, x, y, z) -> tuple:
    """The derivative of pixel coordinates by world coordinates (2 x 3), at a camera-space point held near the picture.

    Far outside the picture the linear approximation of the projection explodes; like gsplat, the point is moved to at
    most 0.3 half fields of view beyond the border.
    """
    inverse = _ONE / z
    tx = min(max(x * inverse, -camera[17]), camera[18])
    ty = min(max(y * inverse, -camera[19]), camera[20])
    a = camera[12] * inverse
    b = camera[14] * inverse
    c = -(camera[12] * tx + camera[14] * ty) * inverse
    d = camera[13] * inverse
    e = -camera[13] * ty * inverse
    return (
        a * camera[0] + b * camera[3] + c * camera[6],
        a * camera[1] + b * camera[4] + c * camera[7],
        a * camera[2] + b * camera[5] + c * camera[8],
        d * camera[3] + e * camera[6],
        d * camera[4] + e * camera[7],
        d * camera[5] + e * camera[8],
    )


@inline
@typing.no_type_check
def spread(p, r, scale) -> tuple:
    """The splat's axes on the screen (2 x 3): projection rows times rotation times scales."""
    return (
        (p[0] * r[0] + p[1] * r[3] + p[2] * r[6]) * scale[0],
        (p[0] * r[1] + p[1] * r[4] + p[2] * r[7]) * scale[1],
        (p[0] * r[2] + p[1] * r[5] + p[2] * r[8]) * scale[2],
        (p[3] * r[0] + p[4] * r[3] + p[5] * r[6]) * scale[0],
        (p[3] * r[1] + p[4] * r[4] + p[5] * r[7]) * scale[1],
        (p[3] * r[2] + p[4] * r[5] + p[5] * r[8]) * scale[2],
    )


@inline
@typing.no_type_check
def _project_one(mean, scale, quaternion, opacity, harmonics, camera, height, width, antialias, record, box) -> bool:
    """Fill the record of one splat; whether it can be seen. NaN fails every comparison here, so it is never seen."""
    x = camera[0] * mean[0] + camera[1] * mean[1] + camera[2] * mean[2] + camera[9]
    y = camera[3] * mean[0] + camera[4] * mean[1] + camera[5] * mean[2] + camera[10]
    z = camera[6] * mean[0] + camera[7] * mean[1] + camera[8] * mean[2] + camera[11]
    if not (z >= NEAR and z <= FAR and opacity >= ALPHA_MIN and opacity < _HUGE):
        return False
    v = spread(projection_rows(camera, x, y, z), rotation_rows(quaternion), scale)
    uu = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
    uv = v[0] * v[3] + v[1] * v[4] + v[2] * v[5]
    vv = v[3] * v[3] + v[4] * v[4] + v[5] * v[5]
    m, n, o = v[0] * v[4] - v[1] * v[3], v[0] * v[5] - v[2] * v[3], v[1] * v[5] - v[2] * v[4]
    sharp = (
        m * m + n * n + o * o
    )  # the determinant before the blur, as a sum of squares (Cauchy-Binet): no cancellation
    blurred = sharp + BLUR * (uu + vv) + BLUR * BLUR
    if not (blurred < _HUGE and uu + vv > _ZERO):
        return False
    uu, vv = uu + BLUR, vv + BLUR
    if antialias:
        opacity *= math.sqrt(sharp / blurred)
        if not opacity >= ALPHA_MIN:
            return False
    power = math.log(opacity) * _LOG2E
    reach = _TWO_LN2 * max(power - CUT, _ZERO)
    inverse = _ONE / z
    u = camera[12] * x * inverse + camera[14] * y * inverse + camera[15]
    w = camera[13] * y * inverse + camera[16]
    ru = math.sqrt(reach * uu) * (_ONE + _MARGIN) + _MARGIN - _HALF
    rv = math.sqrt(reach * vv) * (_ONE + _MARGIN) + _MARGIN - _HALF
    # a pixel i is inside when |i + 1/2 - u| <= radius
    if not (u + ru >= _ZERO and u - ru <= width and w + rv >= _ZERO and w - rv <= height):
        return False
    x0 = np.int32(math.ceil(max(u - ru - _ONE, _ZERO)))
    y0 = np.int32(math.ceil(max(w - rv - _ONE, _ZERO)))
    x1 = np.int32(math.floor(min(u + ru, np.float32(width - 1))))
    y1 = np.int32(math.floor(min(w + rv, np.float32(height - 1))))
    if x0 > x1 or y0 > y1:
        return False
    dx, dy, dz = mean[0] - camera[21], mean[1] - camera[22], mean[2] - camera[23]
    shrink = _ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
    red, green, blue = view_color(harmonics, dx * shrink, dy * shrink, dz * shrink)
    if not (abs(red) < _HUGE and abs(green) < _HUGE and abs(blue) < _HUGE):
        return False
    l11 = math.sqrt(_HALF_LOG2E * vv / blurred)
    record[0], record[1], record[2], record[3] = u, w, l11, -l11 * uv / vv
    record[4], record[5] = math.sqrt(_HALF_LOG2E / vv), power
    record[6], record[7], record[8] = max(red, _ZERO), max(green, _ZERO), max(blue, _ZERO)
    record[9] = z
    box[10], box[11], box[12], box[13] = x0, x1, y0, y1
    return True


@kernel
@typing.no_type_check
def project(
    counter, pieces, means, scales, quaternions, opacities, harmonics, camera, size, antialias,
    records, boxes, tiles, counts, across,
) -> None:  # fmt: skip
    """Project every splat of the pieces that this thread takes, and count the splats of each tile by piece."""
    height, width = size
    number = means.shape[0]
    while True:
        piece = take_next(counter)
        if piece >= pieces:
            return
        count = counts[piece]
        count[:] = 0
        for i in range(piece * number // pieces, (piece + 1) * number // pieces):
            seen = _project_one(
                means[i], scales[i], quaternions[i], opacities[i], harmonics[i], camera, height, width, antialias,
                records[i], boxes[i],
            )  # fmt: skip
            tile = tiles[i]
            if not seen:
                tile[1] = tile[0] = 0
                continue
            box = boxes[i]
            tile[0], tile[1] = box[10] // TILE, box[11] // TILE + 1
            tile[2], tile[3] = box[12] // TILE, box[13] // TILE + 1
            for row in range(tile[2], tile[3]):
                for column in range(tile[0], tile[1]):
                    count[row * across + column] += 1
