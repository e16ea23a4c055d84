"""The kernels that turn the sums of each splat over the screen into gradients of the splat and of the camera.

Sixteen splats go together; the gradients by the camera are summed by chunks of fixed length, in order.
"""

from __future__ import annotations

import math
import typing

import numpy as np

from da3gs.rendering._backward import SUMS
from da3gs.rendering._jit import inline, kernel
from da3gs.rendering._project import (
    BLUR,
    RECORD,
    copy_few,
    determinant,
    projection_rows,
    rotation_rows,
    spread,
    store_basis,
)
from da3gs.rendering._simd import (
    above,
    below,
    both,
    broadcast,
    load,
    load_every_fourth,
    load_every_third,
    select,
    store,
    take_next,
    total,
)
from da3gs.rendering._simd_math import multiply_add, square_root

CHUNK = 1024
CAMERA = 17
"""Gradients by a camera: rotation row by row, translation, fx, fy, skew, cx, cy."""
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_LN2 = np.float32(math.log(2))
_INVERSE_K = np.float32(2 * math.log(2))
_C1 = np.float32(0.4886025119029199)
_C2 = tuple(np.float32(c) for c in (1.0925484305920792, 0.31539156525252005, 0.5462742152960396))
_C3 = tuple(
    np.float32(c)
    for c in (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)
)
# rows of 16 lanes: the sums, the factors of the exponent, whether the lane counts; the basis; by basis; results
_FACTORS, _SEEN, _BASIS, _BY_BASIS = 10, 13, 14, 30
_MEAN, _SCALE, _TURN, _OPACITY = 46, 49, 52, 56
_ROWS = 57


@inline
@typing.no_type_check
def _by_direction(rows, bands, x, y, z) -> tuple:
    """Gradient by the unit direction, from the gradients by the basis functions."""
    at = 16 * _BY_BASIS
    gx, gy, gz = broadcast(_ZERO), broadcast(_ZERO), broadcast(_ZERO)
    if bands >= 4:
        gx, gy, gz = load(rows, at + 48) * -_C1, load(rows, at + 16) * -_C1, load(rows, at + 32) * _C1
    if bands >= 9:
        a, b, c = _C2
        q4, q5, q6 = load(rows, at + 64) * a, load(rows, at + 80) * -a, load(rows, at + 96) * (_TWO * b)
        q7, q8 = load(rows, at + 112) * -a, load(rows, at + 128) * (_TWO * c)
        gx += q4 * y - q6 * x + q7 * z + q8 * x
        gy += q4 * x + q5 * z - q6 * y - q8 * y
        gz += q5 * y + q6 * z * _TWO + q7 * x
        if bands >= 16:
            xx, yy, zz, xy = x * x, y * y, z * z, x * y
            three, six, eight = np.float32(3), np.float32(6), np.float32(8)
            r = np.float32(4) * zz - xx - yy
            q9, q10, q11 = load(rows, at + 144) * -_C3[0], load(rows, at + 160) * _C3[1], load(rows, at + 176) * -_C3[2]
            q12, q13 = load(rows, at + 192) * _C3[3], load(rows, at + 208) * -_C3[2]
            q14, q15 = load(rows, at + 224) * _C3[4], load(rows, at + 240) * -_C3[0]
            gx += q9 * xy * six + q10 * y * z - q11 * xy * _TWO - q12 * x * z * six
            gx += q13 * (r - _TWO * xx) + q14 * x * z * _TWO + q15 * three * (xx - yy)
            gy += q9 * three * (xx - yy) + q10 * x * z + q11 * (r - _TWO * yy) - q12 * y * z * six
            gy += q13 * xy * -_TWO - q14 * y * z * _TWO - q15 * xy * six
            gz += q10 * xy + q11 * y * z * eight + q12 * (six * zz - three * (xx + yy))
            gz += q13 * x * z * eight + q14 * (xx - yy)
    return gx, gy, gz


@inline
@typing.no_type_check
def _by_quaternion(g, w, x, y, z) -> tuple:
    """Gradient by a quaternion of any length, from that by the nine entries of its rotation matrix."""
    shrink = _ONE / square_root(w * w + x * x + y * y + z * z)
    w, x, y, z = w * shrink, x * shrink, y * shrink, z * shrink
    gw = _TWO * (x * (g[7] - g[5]) + y * (g[2] - g[6]) + z * (g[3] - g[1]))
    gx = _TWO * (w * (g[7] - g[5]) + y * (g[1] + g[3]) + z * (g[2] + g[6]) - _TWO * x * (g[4] + g[8]))
    gy = _TWO * (w * (g[2] - g[6]) + x * (g[1] + g[3]) + z * (g[5] + g[7]) - _TWO * y * (g[0] + g[8]))
    gz = _TWO * (w * (g[3] - g[1]) + x * (g[2] + g[6]) + y * (g[5] + g[7]) - _TWO * z * (g[0] + g[4]))
    along = w * gw + x * gx + y * gy + z * gz
    return (gw - w * along) * shrink, (gx - x * along) * shrink, (gy - y * along) * shrink, (gz - z * along) * shrink


@inline
@typing.no_type_check
def _turn(rows, p, gu, qw, qx, qy, qz) -> None:
    """Gradient by the quaternion, from the projection rows and the gradient by their product with the rotation."""
    gr = (
        p[0] * gu[0] + p[3] * gu[3], p[0] * gu[1] + p[3] * gu[4], p[0] * gu[2] + p[3] * gu[5],
        p[1] * gu[0] + p[4] * gu[3], p[1] * gu[1] + p[4] * gu[4], p[1] * gu[2] + p[4] * gu[5],
        p[2] * gu[0] + p[5] * gu[3], p[2] * gu[1] + p[5] * gu[4], p[2] * gu[2] + p[5] * gu[5],
    )  # fmt: skip
    turn = _by_quaternion(gr, qw, qx, qy, qz)
    store(rows, 16 * _TURN, turn[0])
    store(rows, 16 * _TURN + 16, turn[1])
    store(rows, 16 * _TURN + 32, turn[2])
    store(rows, 16 * _TURN + 48, turn[3])


@inline
@typing.no_type_check
def _by_covariance(rows, v, antialias) -> tuple:
    """Gradient by the entries uu, uv, vv of the covariance on the screen (as a symmetric matrix)."""
    l11, l21, l22 = load(rows, 16 * _FACTORS), load(rows, 16 * _FACTORS + 16), load(rows, 16 * _FACTORS + 32)
    mpp, mps, mss = load(rows, 48), load(rows, 64), load(rows, 80)
    guu = l11 * l11 * mpp * _INVERSE_K
    guv = l11 * (l21 * mpp + l22 * mps) * _INVERSE_K
    gvv = (l21 * l21 * mpp + _TWO * l21 * l22 * mps + l22 * l22 * mss) * _INVERSE_K
    if antialias:
        uu = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
        uv = v[0] * v[3] + v[1] * v[4] + v[2] * v[5]
        vv = v[3] * v[3] + v[4] * v[4] + v[5] * v[5]
        sharp = determinant(v)
        blurred = sharp + BLUR * (uu + vv) + BLUR * BLUR
        half = load(rows, 0) * (_HALF / _LN2)
        by_sharp, by_blurred = half / sharp, half / blurred
        guu += by_sharp * vv - by_blurred * (vv + BLUR)
        guv += (by_blurred - by_sharp) * uv
        gvv += by_sharp * uu - by_blurred * (uu + BLUR)
    return guu, guv, gvv


@inline
@typing.no_type_check
def _by_point(p, x, y, inverse, gp, du, dv, deep, camera, seen, by_camera) -> tuple:
    """Gradient by the point in camera space; what falls to the camera is added to ``by_camera``.

    ``p`` are the projection rows (J times the camera's rotation), ``gp`` the gradient by them.
    """
    j = (
        gp[0] * camera[0] + gp[1] * camera[1] + gp[2] * camera[2],
        gp[0] * camera[3] + gp[1] * camera[4] + gp[2] * camera[5],
        gp[0] * camera[6] + gp[1] * camera[7] + gp[2] * camera[8],
        gp[3] * camera[3] + gp[4] * camera[4] + gp[5] * camera[5],
        gp[3] * camera[6] + gp[4] * camera[7] + gp[5] * camera[8],
    )
    fx, fy, skew = camera[12], camera[13], camera[14]
    rx, ry = x * inverse, y * inverse
    free_x = both(above(rx, -camera[17]), below(rx, camera[18]))
    free_y = both(above(ry, -camera[19]), below(ry, camera[20]))
    zero = broadcast(_ZERO)
    tx = select(free_x, rx, select(above(rx, _ZERO), broadcast(camera[18]), broadcast(-camera[17])))
    ty = select(free_y, ry, select(above(ry, _ZERO), broadcast(camera[20]), broadcast(-camera[19])))
    by_tx = select(free_x, zero - j[2] * inverse * fx, zero)
    by_ty = select(free_y, zero - (j[2] * skew + j[4] * fy) * inverse, zero)
    by_inverse = j[0] * fx + j[1] * skew - j[2] * (fx * tx + skew * ty) + j[3] * fy - j[4] * ty * fy
    by_inverse += du * (fx * x + skew * y) + dv * y * fy + by_tx * x + by_ty * y
    gx = (du * fx + by_tx) * inverse
    gy = (du * skew + dv * fy + by_ty) * inverse
    gz = deep - by_inverse * inverse * inverse

    a, b, d = fx * inverse, skew * inverse, fy * inverse
    c, e = zero - (fx * tx + skew * ty) * inverse, zero - ty * inverse * fy
    for axis in range(3):
        by_camera[axis] += total(select(seen, gp[axis] * a, zero))
        by_camera[3 + axis] += total(select(seen, gp[axis] * b + gp[3 + axis] * d, zero))
        by_camera[6 + axis] += total(select(seen, gp[axis] * c + gp[3 + axis] * e, zero))
    by_camera[12] += total(select(seen, (du * x + j[0] - j[2] * tx) * inverse, zero))
    by_camera[13] += total(select(seen, (dv * y + j[3] - j[4] * ty) * inverse, zero))
    by_camera[14] += total(select(seen, (du * y + j[1] - j[2] * ty) * inverse, zero))
    by_camera[15] += total(select(seen, du, zero))
    by_camera[16] += total(select(seen, dv, zero))
    return gx, gy, gz


@inline
@typing.no_type_check
def _gather(at, lanes, tiles, slots, sums, channels, records, bands, harmonics, rows, grad_features) -> bool:
    """Bring the sums of up to 16 splats into ``rows``; whether any of them was drawn."""
    width = SUMS + channels
    for k in range(_FACTORS + 4):
        for lane in range(16):
            rows[16 * k + lane] = _ZERO
    drawn = False
    for lane in range(lanes):
        i = at + lane
        if tiles[i, 1] == 0:
            continue
        drawn = True
        first = slots[i] * width
        number = (np.int64(tiles[i, 1]) - tiles[i, 0]) * (np.int64(tiles[i, 3]) - tiles[i, 2])
        for slot in range(number):
            for k in range(SUMS):
                rows[16 * k + lane] += sums[first + slot * width + k]
            for c in range(channels):
                grad_features[i * channels + c] += sums[first + slot * width + SUMS + c]
        rows[16 * _SEEN + lane] = _ONE
        for k in range(3):
            rows[16 * (_FACTORS + k) + lane] = records[RECORD * i + 2 + k]
            if records[RECORD * i + 6 + k] <= _ZERO:  # a colour held at 0
                rows[16 * (6 + k) + lane] = _ZERO
    return drawn


@inline
@typing.no_type_check
def _by_harmonics(at, lanes, bands, harmonics, rows, grad_harmonics) -> None:
    """Add the gradients by harmonics, and leave those by the basis functions in ``rows``."""
    for lane in range(lanes):
        red, green, blue = rows[16 * 6 + lane], rows[16 * 7 + lane], rows[16 * 8 + lane]
        if rows[16 * _SEEN + lane] == _ZERO:
            continue
        first = 3 * bands * (at + lane)
        for band in range(bands):
            weight = rows[16 * (_BASIS + band) + lane]
            place = first + 3 * band
            rows[16 * (_BY_BASIS + band) + lane] = (
                red * harmonics[place] + green * harmonics[place + 1] + blue * harmonics[place + 2]
            )
            grad_harmonics[place] += weight * red
            grad_harmonics[place + 1] += weight * green
            grad_harmonics[place + 2] += weight * blue


@inline
@typing.no_type_check
def _back_sixteen(at, means, scales, quaternions, opacities, bands, camera, antialias, rows, by_camera) -> None:
    """Gradients of 16 splats by everything but harmonics, from ``rows`` into ``rows``."""
    seen = above(load(rows, 16 * _SEEN), _HALF)
    zero = broadcast(_ZERO)
    mx, my, mz = (load_every_third(means, 3 * at), load_every_third(means, 3 * at + 1),
                  load_every_third(means, 3 * at + 2))  # fmt: skip
    sx, sy, sz = (load_every_third(scales, 3 * at), load_every_third(scales, 3 * at + 1),
                  load_every_third(scales, 3 * at + 2))  # fmt: skip
    qw, qx = load_every_fourth(quaternions, 4 * at), load_every_fourth(quaternions, 4 * at + 1)
    qy, qz = load_every_fourth(quaternions, 4 * at + 2), load_every_fourth(quaternions, 4 * at + 3)
    x = camera[0] * mx + camera[1] * my + camera[2] * mz + camera[9]
    y = camera[3] * mx + camera[4] * my + camera[5] * mz + camera[10]
    z = camera[6] * mx + camera[7] * my + camera[8] * mz + camera[11]
    inverse = _ONE / z
    p, r = projection_rows(camera, x, y, inverse), rotation_rows(qw, qx, qy, qz)
    one = broadcast(_ONE)
    u = spread(p, r, one, one, one)
    v = (u[0] * sx, u[1] * sy, u[2] * sz, u[3] * sx, u[4] * sy, u[5] * sz)
    guu, guv, gvv = _by_covariance(rows, v, antialias)
    gv = (
        _TWO * (guu * v[0] + guv * v[3]), _TWO * (guu * v[1] + guv * v[4]), _TWO * (guu * v[2] + guv * v[5]),
        _TWO * (guv * v[0] + gvv * v[3]), _TWO * (guv * v[1] + gvv * v[4]), _TWO * (guv * v[2] + gvv * v[5]),
    )  # fmt: skip
    store(rows, 16 * _SCALE, gv[0] * u[0] + gv[3] * u[3])
    store(rows, 16 * _SCALE + 16, gv[1] * u[1] + gv[4] * u[4])
    store(rows, 16 * _SCALE + 32, gv[2] * u[2] + gv[5] * u[5])
    gu = (gv[0] * sx, gv[1] * sy, gv[2] * sz, gv[3] * sx, gv[4] * sy, gv[5] * sz)
    _turn(rows, p, gu, qw, qx, qy, qz)
    store(rows, 16 * _OPACITY, load(rows, 0) / (load(opacities, at) * _LN2))
    gp = (
        gu[0] * r[0] + gu[1] * r[1] + gu[2] * r[2], gu[0] * r[3] + gu[1] * r[4] + gu[2] * r[5],
        gu[0] * r[6] + gu[1] * r[7] + gu[2] * r[8],
        gu[3] * r[0] + gu[4] * r[1] + gu[5] * r[2], gu[3] * r[3] + gu[4] * r[4] + gu[5] * r[5],
        gu[3] * r[6] + gu[4] * r[7] + gu[5] * r[8],
    )  # fmt: skip
    l11, l21, l22 = load(rows, 16 * _FACTORS), load(rows, 16 * _FACTORS + 16), load(rows, 16 * _FACTORS + 32)
    hp, hs = load(rows, 16), load(rows, 32)
    du, dv = _TWO * l11 * hp, _TWO * (l21 * hp + l22 * hs)
    tx, ty, tz = _by_point(p, x, y, inverse, gp, du, dv, load(rows, 16 * 9), camera, seen, by_camera)

    dx, dy, dz = mx - camera[21], my - camera[22], mz - camera[23]
    shrink = _ONE / square_root(dx * dx + dy * dy + dz * dz)
    dx, dy, dz = dx * shrink, dy * shrink, dz * shrink
    ex, ey, ez = _by_direction(rows, bands, dx, dy, dz)
    along = ex * dx + ey * dy + ez * dz
    ex, ey, ez = (ex - dx * along) * shrink, (ey - dy * along) * shrink, (ez - dz * along) * shrink
    store(rows, 16 * _MEAN, camera[0] * tx + camera[3] * ty + camera[6] * tz + ex)
    store(rows, 16 * _MEAN + 16, camera[1] * tx + camera[4] * ty + camera[7] * tz + ey)
    store(rows, 16 * _MEAN + 32, camera[2] * tx + camera[5] * ty + camera[8] * tz + ez)

    # the camera's centre is -Rᵀ t, and gets minus the gradient by the direction's end
    for row in range(3):
        t = tx if row == 0 else ty if row == 1 else tz
        across = camera[3 * row] * ex + camera[3 * row + 1] * ey + camera[3 * row + 2] * ez
        by_camera[3 * row] += total(select(seen, t * mx + ex * camera[9 + row], zero))
        by_camera[3 * row + 1] += total(select(seen, t * my + ey * camera[9 + row], zero))
        by_camera[3 * row + 2] += total(select(seen, t * mz + ez * camera[9 + row], zero))
        by_camera[9 + row] += total(select(seen, t + across, zero))


@inline
@typing.no_type_check
def _directions(at, means, bands, camera, rows) -> None:
    dx = load_every_third(means, 3 * at) - camera[21]
    dy = load_every_third(means, 3 * at + 1) - camera[22]
    dz = load_every_third(means, 3 * at + 2) - camera[23]
    shrink = _ONE / square_root(multiply_add(dx, dx, multiply_add(dy, dy, dz * dz)))
    store_basis(rows, 16 * _BASIS, bands, dx * shrink, dy * shrink, dz * shrink)


@kernel
@typing.no_type_check
def project_back(
    counter, means, scales, quaternions, opacities, harmonics, bands, camera, antialias, records, tiles, slots, sums,
    channels, grad_means, grad_scales, grad_quaternions, grad_opacities, grad_harmonics, grad_features, grad_camera,
) -> None:  # fmt: skip
    """Add the gradients of the chunks of splats that this thread takes; each chunk has a row of ``grad_camera``."""
    number = opacities.shape[0]
    rows = np.zeros(16 * _ROWS, np.float32)
    few = (np.zeros(48, np.float32), np.zeros(48, np.float32), np.zeros(64, np.float32), np.zeros(16, np.float32))
    while True:
        chunk = take_next(counter)
        if chunk * CHUNK >= number:
            return
        by_camera = grad_camera[chunk]
        for at in range(chunk * CHUNK, min((chunk + 1) * CHUNK, number), 16):
            lanes = min(16, number - at)
            if not _gather(at, lanes, tiles, slots, sums, channels, records, bands, harmonics, rows, grad_features):
                continue
            if lanes == 16:
                _directions(at, means, bands, camera, rows)
                _by_harmonics(at, lanes, bands, harmonics, rows, grad_harmonics)
                _back_sixteen(at, means, scales, quaternions, opacities, bands, camera, antialias, rows, by_camera)
            else:
                copy_few(few, at, number, means, scales, quaternions, opacities)
                _directions(0, few[0], bands, camera, rows)
                _by_harmonics(at, lanes, bands, harmonics, rows, grad_harmonics)
                _back_sixteen(0, few[0], few[1], few[2], few[3], bands, camera, antialias, rows, by_camera)
            for lane in range(lanes):
                if rows[16 * _SEEN + lane] == _ZERO:
                    continue
                i = at + lane
                for axis in range(3):
                    grad_means[3 * i + axis] += rows[16 * (_MEAN + axis) + lane]
                    grad_scales[3 * i + axis] += rows[16 * (_SCALE + axis) + lane]
                for part in range(4):
                    grad_quaternions[4 * i + part] += rows[16 * (_TURN + part) + lane]
                grad_opacities[i] += rows[16 * _OPACITY + lane]
