"""Kernels for the light on a block of points of one surface: lamps, their shadows, and the open sky.

Arguments that name no scalar are arrays of n points; see ``_raycast`` for why the loops are many and short.
"""

from __future__ import annotations

import math
import typing

import numpy as np

from da3gs.procedural._raycast import BALL, BOX, in_ball, in_box, in_cylinder, inlined
from da3gs.rendering._jit import kernel


@inlined
@typing.no_type_check
def _random(a, b) -> float:
    """A hash of two integers in [0, 1)."""
    x = (a * 0x9E3779B1 ^ b * 0x85EBCA77) & 0xFFFFFFFF  # numba's products of 32-bit integers have 64
    x ^= x >> 15
    x = (x * 0x2C1B3C6D) & 0xFFFFFFFF
    x ^= x >> 12
    x = (x * 0x297A2D39) & 0xFFFFFFFF
    x ^= x >> 15
    return x / 4294967296.0


@inlined
@typing.no_type_check
def _jitter(key, which, radius) -> float:
    return (_random(key, which) - 0.5) * 2 * radius


@kernel
@typing.no_type_check
def _hide(n, px, py, pz, qx, qy, qz, last, reach, kinds, inward, frames, centers, radii, free) -> None:
    """Set ``free`` to 0 where a solid stands between p and q.

    All q lie in a ball of radius ``reach`` round ``last``: with the ball round all p, solids that cannot matter are
    left out.
    """
    ax, ay, az = px[n // 2], py[n // 2], pz[n // 2]
    wide = 0.0
    for k in range(n):
        wide = max(wide, (px[k] - ax) ** 2 + (py[k] - ay) ** 2 + (pz[k] - az) ** 2)
    wide = max(math.sqrt(wide), reach)
    bx, by, bz = last[0] - ax, last[1] - ay, last[2] - az
    length = bx * bx + by * by + bz * bz + 1e-30
    for p in range(kinds.shape[0]):
        if inward[p]:
            continue
        cx, cy, cz = centers[p, 0], centers[p, 1], centers[p, 2]
        s = min(1.0, max(0.0, ((cx - ax) * bx + (cy - ay) * by + (cz - az) * bz) / length))
        far = (ax + s * bx - cx) ** 2 + (ay + s * by - cy) ** 2 + (az + s * bz - cz) ** 2
        if far > (radii[p] + wide) ** 2:
            continue
        f = frames[p]
        a, b, c, d, e, g, h, i, j = f[0, 0], f[0, 1], f[0, 2], f[1, 0], f[1, 1], f[1, 2], f[2, 0], f[2, 1], f[2, 2]
        if kinds[p] == BOX:
            for k in range(n):
                ox, oy, oz = px[k] - cx, py[k] - cy, pz[k] - cz
                x, y, z = qx[k] - px[k], qy[k] - py[k], qz[k] - pz[k]
                enters, leaves = in_box(
                    a * ox + b * oy + c * oz, d * ox + e * oy + g * oz, h * ox + i * oy + j * oz,
                    a * x + b * y + c * z, d * x + e * y + g * z, h * x + i * y + j * z,
                )  # fmt: skip
                free[k] = 0.0 if (enters <= leaves) & (leaves > 0.0) & (enters < 1.0) else free[k]
        elif kinds[p] == BALL:
            for k in range(n):
                ox, oy, oz = px[k] - cx, py[k] - cy, pz[k] - cz
                x, y, z = qx[k] - px[k], qy[k] - py[k], qz[k] - pz[k]
                enters, leaves = in_ball(
                    a * ox + b * oy + c * oz, d * ox + e * oy + g * oz, h * ox + i * oy + j * oz,
                    a * x + b * y + c * z, d * x + e * y + g * z, h * x + i * y + j * z,
                )  # fmt: skip
                free[k] = 0.0 if (enters <= leaves) & (leaves > 0.0) & (enters < 1.0) else free[k]
        else:
            for k in range(n):
                ox, oy, oz = px[k] - cx, py[k] - cy, pz[k] - cz
                x, y, z = qx[k] - px[k], qy[k] - py[k], qz[k] - pz[k]
                enters, leaves = in_cylinder(
                    a * ox + b * oy + c * oz, d * ox + e * oy + g * oz, h * ox + i * oy + j * oz,
                    a * x + b * y + c * z, d * x + e * y + g * z, h * x + i * y + j * z,
                )  # fmt: skip
                free[k] = 0.0 if (enters <= leaves) & (leaves > 0.0) & (enters < 1.0) else free[k]


@kernel
@typing.no_type_check
def open_sky(n, px, py, pz, nx, ny, nz, reach, rays, key, kinds, inward, frames, centers, radii, rows, out) -> None:
    """The share of the half-space above the surface that no solid within reach hides (cosine-weighted)."""
    free, qx, qy, qz = rows[0], rows[1], rows[2], rows[3]
    for k in range(n):
        out[k] = 0.0
    middle = np.array([px[n // 2], py[n // 2], pz[n // 2]])
    wide = 0.0
    for k in range(n):
        wide = max(wide, (px[k] - middle[0]) ** 2 + (py[k] - middle[1]) ** 2 + (pz[k] - middle[2]) ** 2)
    for ray in range(rays):
        for k in range(n):
            a = 2 * math.pi * _random(key[k], 101 + 2 * ray)
            z = 2 * _random(key[k], 102 + 2 * ray) - 1
            r = math.sqrt(max(0.0, 1 - z * z))
            dx, dy, dz = nx[k] + r * math.cos(a), ny[k] + r * math.sin(a), nz[k] + z
            far = reach / (math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9)
            qx[k], qy[k], qz[k], free[k] = px[k] + far * dx, py[k] + far * dy, pz[k] + far * dz, 1.0
        _hide(n, px, py, pz, qx, qy, qz, middle, math.sqrt(wide) + reach, kinds, inward, frames, centers, radii, free)
        for k in range(n):
            out[k] += free[k] / rays


@kernel
@typing.no_type_check
def _glossy(n, px, py, pz, nx, ny, nz, eye, gloss, lamp, light, key, shine) -> None:
    """How much of a lamp's light is thrown towards the eye: a highlight round the mirrored direction."""
    ex, ey, ez = eye[0], eye[1], eye[2]
    x, y, z, radius = light[0], light[1], light[2], light[6]
    half = light[7] * light[7]
    for k in range(n):
        lx = x + _jitter(key[k], 3 * lamp + 11, radius) - px[k]
        ly = y + _jitter(key[k], 3 * lamp + 12, radius) - py[k]
        lz = z + _jitter(key[k], 3 * lamp + 13, radius) - pz[k]
        square = lx * lx + ly * ly + lz * lz
        distance = math.sqrt(square) + 1e-9
        vx, vy, vz = ex - px[k], ey - py[k], ez - pz[k]
        view = math.sqrt(vx * vx + vy * vy + vz * vz) + 1e-9
        hx, hy, hz = lx / distance + vx / view, ly / distance + vy / view, lz / distance + vz / view
        mirror = (nx[k] * hx + ny[k] * hy + nz[k] * hz) / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9)
        mirror = max(mirror, 0.0) if nx[k] * lx + ny[k] * ly + nz[k] * lz > 0.0 else 0.0
        eighth = mirror * mirror * mirror * mirror
        eighth *= eighth
        power = eighth * eighth
        shine[k] = gloss * power * power * eighth / (1.0 + square / half)  # the 40th power


@kernel
@typing.no_type_check
def lamps(
    n, px, py, pz, nx, ny, nz, eye, gloss, lights, shadows, key, kinds, inward, frames, centers, radii, rows, dull,
    shiny,
) -> None:  # fmt: skip
    """Add the light of all lamps to ``dull`` [3, n] (diffuse) and ``shiny`` [3, n] (glossy, towards the eye).

    Shadow rays reach a random point of each lamp, one for each ``key``.
    """
    light, shine, free, qx, qy, qz = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    for lamp in range(lights.shape[0]):
        x, y, z, radius = lights[lamp, 0], lights[lamp, 1], lights[lamp, 2], lights[lamp, 6]
        half = lights[lamp, 7] * lights[lamp, 7]
        brightest = 0.0
        for k in range(n):
            lx = x + _jitter(key[k], 3 * lamp + 11, radius) - px[k]
            ly = y + _jitter(key[k], 3 * lamp + 12, radius) - py[k]
            lz = z + _jitter(key[k], 3 * lamp + 13, radius) - pz[k]
            square = lx * lx + ly * ly + lz * lz
            cosine = (nx[k] * lx + ny[k] * ly + nz[k] * lz) / (math.sqrt(square) + 1e-9)
            light[k] = max(cosine, 0.0) / (1.0 + square / half)
        for k in range(n):
            brightest = max(brightest, light[k])
        if brightest == 0.0:
            continue
        if gloss > 0.0:
            _glossy(n, px, py, pz, nx, ny, nz, eye, gloss, lamp, lights[lamp], key, shine)
        if shadows:
            for k in range(n):
                qx[k] = x + _jitter(key[k], 3 * lamp + 11, radius)
            for k in range(n):
                qy[k] = y + _jitter(key[k], 3 * lamp + 12, radius)
            for k in range(n):
                qz[k] = z + _jitter(key[k], 3 * lamp + 13, radius)
            for k in range(n):
                free[k] = 1.0
            _hide(n, px, py, pz, qx, qy, qz, lights[lamp], 1.7321 * radius, kinds, inward, frames, centers, radii, free)
            for k in range(n):
                light[k] *= free[k]
        for channel in range(3):
            strength, out = lights[lamp, 3 + channel], dull[channel]
            for k in range(n):
                out[k] += strength * light[k]
        if gloss > 0.0:
            for channel in range(3):
                strength, out = lights[lamp, 3 + channel], shiny[channel]
                if shadows:
                    for k in range(n):
                        out[k] += strength * shine[k] * free[k]
                else:
                    for k in range(n):
                        out[k] += strength * shine[k]
