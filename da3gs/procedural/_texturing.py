"""Kernels that colour a block of points of one face by its texture.

Arguments that name no scalar are arrays of n points; see ``_raycast`` for why the loops are many and short.
"""

from __future__ import annotations

import math
import typing

from da3gs.procedural._raycast import BALL, CYLINDER, inlined
from da3gs.rendering._jit import kernel


@kernel
@typing.no_type_check
def coordinates(n, kind, face, half, material, lx, ly, lz, rows, tu, tv) -> None:
    """Texture coordinates: shares of the face, or lengths along it, times the material's repeats."""
    angle, tilt = rows[0], rows[1]
    hx, hy, hz = half[0], half[1], half[2]
    across, down = lx, ly  # the top and the bottom of a box or a cylinder
    wide, high, slope, fall = hx, -hy, 0.5, -0.5
    if kind == BALL or (kind == CYLINDER and face == 0):
        for k in range(n):
            angle[k] = math.atan2(ly[k], lx[k])
        across, down, wide, high, slope = angle, lz, 0.5 * (hx + hy), -hz, 0.5 / math.pi
        if kind == BALL:
            for k in range(n):
                tilt[k] = math.asin(min(1.0, max(-1.0, lz[k])))
            down, fall = tilt, -1.0 / math.pi
    elif face < 2:
        across, down, wide, high, slope = ly, lz, hy, -hz, (0.5 if face == 0 else -0.5)
    elif face < 4:
        across, down, wide, high, slope = lx, lz, hx, -hz, (-0.5 if face == 2 else 0.5)
    shift_u, shift_v = material[4], material[5]
    if material[3] > 0.0:
        shift_u, shift_v, wide, high = 0.5 * material[1], 0.5 * material[2], slope, fall
    wide *= material[1]
    high *= material[2]
    for k in range(n):
        tu[k] = wide * across[k] + shift_u
    for k in range(n):
        tv[k] = high * down[k] + shift_v


@kernel
@typing.no_type_check
def wide_texels(n, material, half, focal, wx, wy, wz, nx, ny, nz, t, fine, wide) -> None:
    """How wide a sample is on the surface, in repeats of the texture.

    ``w``: directions of the rays, ``n``: normals, ``t``: depths, ``fine``: widths of the samples in pixels.
    """
    if material[3] > 0.0:
        texels = 0.5 * material[1] / max(half[0], max(half[1], half[2]))
    else:
        texels = max(abs(material[1]), abs(material[2]))
    texels *= 0.7 / focal[0]
    for k in range(n):
        ray = math.sqrt(wx[k] * wx[k] + wy[k] * wy[k] + wz[k] * wz[k])
        slant = max(0.15, abs(nx[k] * wx[k] + ny[k] * wy[k] + nz[k] * wz[k]) / ray)
        wide[k] = texels / math.sqrt(slant)
    for k in range(n):
        wide[k] *= t[k] * fine[k]


@inlined
@typing.no_type_check
def _texel(atlas, texture, size, level_starts, u, v, footprint) -> tuple:
    """Colour of a repeating texture at (u, v), from the mip level whose texels are as wide as the footprint."""
    level, width = 0, size
    wide = footprint * size
    while wide > 1.0 and width > 4:
        wide *= 0.5
        width //= 2
        level += 1
    x, y = (u - math.floor(u)) * width, (v - math.floor(v)) * width
    x0, y0 = int(x), int(y)
    fx, fy = x - x0, y - y0
    last = width - 1  # the width is a power of two
    x0, y0, x1, y1 = x0 & last, y0 & last, (x0 + 1) & last, (y0 + 1) & last
    base = level_starts[level]
    a, b = base + y0 * width + x0, base + y0 * width + x1
    c, d = base + y1 * width + x0, base + y1 * width + x1
    wa, wb, wc, wd = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    red = wa * atlas[texture, a, 0] + wb * atlas[texture, b, 0] + wc * atlas[texture, c, 0] + wd * atlas[texture, d, 0]
    green = (
        wa * atlas[texture, a, 1] + wb * atlas[texture, b, 1] + wc * atlas[texture, c, 1] + wd * atlas[texture, d, 1]
    )
    blue = wa * atlas[texture, a, 2] + wb * atlas[texture, b, 2] + wc * atlas[texture, c, 2] + wd * atlas[texture, d, 2]
    return red / 255.0, green / 255.0, blue / 255.0


@kernel
@typing.no_type_check
def paint(n, material, mix, atlas, size, level_starts, tu, tv, wide, red, green, blue) -> None:
    """Linear colours at texture coordinates; these and ``wide`` are used up."""
    texture = int(material[0])
    for k in range(n):
        tu[k], tv[k], wide[k] = _texel(atlas, texture, size, level_starts, tu[k], tv[k], wide[k])
    bright = material[6] if material[6] > 0.0 else 1.0
    for channel, out in enumerate((red, green, blue)):
        a, b, c, d = mix[channel, 0], mix[channel, 1], mix[channel, 2], mix[channel, 3]
        for k in range(n):
            value = min(1.0, max(0.0, a * tu[k] + b * tv[k] + c * wide[k] + d))
            out[k] = bright * value * value
