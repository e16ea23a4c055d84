"""Kernels that colour what rays meet: textures, lamps, shadows, ambient occlusion."""

from __future__ import annotations

import math
import typing

import numpy as np

from da3gs.rendering._jit import kernel
from da3gs.training._raycast import BOX, CYLINDER, TILE, direction, inlined, interval, nearest, origins_of, tiles


@kernel
@typing.no_type_check
def _blocked(px, py, pz, dx, dy, dz, reach, kinds, inward, frames, centers, radii) -> bool:
    """Whether a solid stands between p and p + reach * d (d of unit length)."""
    for p in range(kinds.shape[0]):
        if inward[p]:
            continue
        cx, cy, cz = px - centers[p, 0], py - centers[p, 1], pz - centers[p, 2]
        along = -(cx * dx + cy * dy + cz * dz)
        r = radii[p]
        if along < -r or along - r > reach:
            continue
        if cx * cx + cy * cy + cz * cz - along * along > r * r:
            continue
        near, far = interval(
            kinds[p],
            frames[p, 0, 0] * cx + frames[p, 0, 1] * cy + frames[p, 0, 2] * cz,
            frames[p, 1, 0] * cx + frames[p, 1, 1] * cy + frames[p, 1, 2] * cz,
            frames[p, 2, 0] * cx + frames[p, 2, 1] * cy + frames[p, 2, 2] * cz,
            frames[p, 0, 0] * dx + frames[p, 0, 1] * dy + frames[p, 0, 2] * dz,
            frames[p, 1, 0] * dx + frames[p, 1, 1] * dy + frames[p, 1, 2] * dz,
            frames[p, 2, 0] * dx + frames[p, 2, 1] * dy + frames[p, 2, 2] * dz,
        )
        if near <= far and far > 1e-3 and near < reach:
            return True
    return False


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
    x0, y0 = x0 % width, y0 % width
    x1, y1 = (x0 + 1) % width, (y0 + 1) % width
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


@inlined
@typing.no_type_check
def _surface(kind, lx, ly, lz, hx, hy, hz) -> tuple:
    """Face 0..5, unit normal in the unit solid's frame, and surface coordinates (u, v) in lengths and from 0 to 1."""
    if kind == BOX:
        ax, ay, az = abs(lx), abs(ly), abs(lz)
        if ax >= ay and ax >= az:
            s = 1.0 if lx > 0 else -1.0
            return (0 if lx > 0 else 1), s, 0.0, 0.0, ly * hy, -lz * hz, 0.5 + 0.5 * s * ly, 0.5 - 0.5 * lz
        if ay >= az:
            s = 1.0 if ly > 0 else -1.0
            return (2 if ly > 0 else 3), 0.0, s, 0.0, lx * hx, -lz * hz, 0.5 - 0.5 * s * lx, 0.5 - 0.5 * lz
        s = 1.0 if lz > 0 else -1.0
        return (4 if lz > 0 else 5), 0.0, 0.0, s, lx * hx, -ly * hy, 0.5 + 0.5 * lx, 0.5 - 0.5 * ly
    angle = math.atan2(ly, lx)
    if kind == CYLINDER:
        if lx * lx + ly * ly < lz * lz:
            s = 1.0 if lz > 0 else -1.0
            return (4 if lz > 0 else 5), 0.0, 0.0, s, lx * hx, -ly * hy, 0.5 + 0.5 * lx, 0.5 - 0.5 * ly
        return 0, lx, ly, 0.0, angle * 0.5 * (hx + hy), -lz * hz, 0.5 + angle / (2 * math.pi), 0.5 - 0.5 * lz
    tilt = math.asin(min(1.0, max(-1.0, lz)))
    return 0, lx, ly, lz, angle * 0.5 * (hx + hy), -tilt * hz, 0.5 + angle / (2 * math.pi), 0.5 - tilt / math.pi


@inlined
@typing.no_type_check
def _light(
    px, py, pz, nx, ny, nz, vx, vy, vz, gloss, lights, ambient, shadow, kinds, inward, frames, centers, radii, key
) -> tuple:
    """Diffuse and glossy light (three colours each) at a point; shadow rays reach a random point of each lamp."""
    up = 0.5 + 0.5 * nz
    dr = ambient[0, 0] * up + ambient[1, 0] * (1 - up)
    dg = ambient[0, 1] * up + ambient[1, 1] * (1 - up)
    db = ambient[0, 2] * up + ambient[1, 2] * (1 - up)
    sr = sg = sb = 0.0
    for k in range(lights.shape[0]):
        radius = lights[k, 6]
        jx = (_random(key, 3 * k + 11) - 0.5) * 2 * radius
        jy = (_random(key, 3 * k + 12) - 0.5) * 2 * radius
        jz = (_random(key, 3 * k + 13) - 0.5) * 2 * radius
        lx, ly, lz = lights[k, 0] + jx - px, lights[k, 1] + jy - py, lights[k, 2] + jz - pz
        distance = math.sqrt(lx * lx + ly * ly + lz * lz) + 1e-9
        lx, ly, lz = lx / distance, ly / distance, lz / distance
        cosine = nx * lx + ny * ly + nz * lz
        if cosine <= 0.0:
            continue
        if shadow and _blocked(
            px + 2e-3 * nx, py + 2e-3 * ny, pz + 2e-3 * nz, lx, ly, lz, distance, kinds, inward, frames, centers, radii
        ):
            continue
        fall = 1.0 / (1.0 + distance * distance / (lights[k, 7] * lights[k, 7]))
        dr += lights[k, 3] * cosine * fall
        dg += lights[k, 4] * cosine * fall
        db += lights[k, 5] * cosine * fall
        if gloss > 0.0:
            hx, hy, hz = lx - vx, ly - vy, lz - vz
            half = (nx * hx + ny * hy + nz * hz) / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9)
            if half > 0.0:
                shine = gloss * half**40 * fall
                sr += lights[k, 3] * shine
                sg += lights[k, 4] * shine
                sb += lights[k, 5] * shine
    return dr, dg, db, sr, sg, sb


@kernel
@typing.no_type_check
def _open_sky(px, py, pz, nx, ny, nz, reach, rays, kinds, inward, frames, centers, radii, key) -> float:
    """The share of the half-space above a surface that no solid within reach hides (cosine-weighted)."""
    free = 0
    for k in range(rays):
        a = 2 * math.pi * _random(key, 101 + 2 * k)
        z = 2 * _random(key, 102 + 2 * k) - 1
        r = math.sqrt(max(0.0, 1 - z * z))
        dx, dy, dz = nx + r * math.cos(a), ny + r * math.sin(a), nz + z
        length = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
        if not _blocked(
            px + 2e-3 * nx, py + 2e-3 * ny, pz + 2e-3 * nz, dx / length, dy / length, dz / length, reach,
            kinds, inward, frames, centers, radii,
        ):  # fmt: skip
            free += 1
    return free / rays


@inlined
@typing.no_type_check
def _shade(
    p, t, wx, wy, wz, spread, key, kinds, inward, frames, centers, radii, halves, gloss, faces, materials, mixes,
    lights, ambient, corner_shade, atlas, size, level_starts, origins, ox, oy, oz, shadows, sky_rays,
) -> tuple:  # fmt: skip
    """Linear colour of the point at depth t on a solid; ``spread`` is the width of a sample at depth 1."""
    lx = origins[p, 0] + t * (frames[p, 0, 0] * wx + frames[p, 0, 1] * wy + frames[p, 0, 2] * wz)
    ly = origins[p, 1] + t * (frames[p, 1, 0] * wx + frames[p, 1, 1] * wy + frames[p, 1, 2] * wz)
    lz = origins[p, 2] + t * (frames[p, 2, 0] * wx + frames[p, 2, 1] * wy + frames[p, 2, 2] * wz)
    hx, hy, hz = halves[p, 0], halves[p, 1], halves[p, 2]
    face, ux, uy, uz, mu, mv, fu, fv = _surface(kinds[p], lx, ly, lz, hx, hy, hz)
    nx = frames[p, 0, 0] * ux + frames[p, 1, 0] * uy + frames[p, 2, 0] * uz
    ny = frames[p, 0, 1] * ux + frames[p, 1, 1] * uy + frames[p, 2, 1] * uz
    nz = frames[p, 0, 2] * ux + frames[p, 1, 2] * uy + frames[p, 2, 2] * uz
    length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-30
    if inward[p]:
        length = -length
    nx, ny, nz = nx / length, ny / length, nz / length
    ray = math.sqrt(wx * wx + wy * wy + wz * wz)
    slant = max(0.15, abs(nx * wx + ny * wy + nz * wz) / ray)
    k = faces[p, face]
    if materials[k, 3] > 0.0:
        tu, tv = fu * materials[k, 1], fv * materials[k, 2]
        texels = 0.5 * materials[k, 1] / max(hx, max(hy, hz))
    else:
        tu, tv = mu * materials[k, 1] + materials[k, 4], mv * materials[k, 2] + materials[k, 5]
        texels = max(abs(materials[k, 1]), abs(materials[k, 2]))
    footprint = t * spread / math.sqrt(slant) * texels
    a, b, c = _texel(atlas, int(materials[k, 0]), size, level_starts, tu, tv, footprint)
    red = min(1.0, max(0.0, mixes[k, 0, 0] * a + mixes[k, 0, 1] * b + mixes[k, 0, 2] * c + mixes[k, 0, 3]))
    green = min(1.0, max(0.0, mixes[k, 1, 0] * a + mixes[k, 1, 1] * b + mixes[k, 1, 2] * c + mixes[k, 1, 3]))
    blue = min(1.0, max(0.0, mixes[k, 2, 0] * a + mixes[k, 2, 1] * b + mixes[k, 2, 2] * c + mixes[k, 2, 3]))
    red, green, blue = red * red, green * green, blue * blue
    glow = materials[k, 6]
    if glow > 0.0:  # screens, windows, sky
        return glow * red, glow * green, glow * blue
    px, py, pz = ox + t * wx, oy + t * wy, oz + t * wz
    dr, dg, db, sr, sg, sb = _light(
        px, py, pz, nx, ny, nz, wx / ray, wy / ray, wz / ray, gloss[p], lights, ambient, shadows,
        kinds, inward, frames, centers, radii, key,
    )  # fmt: skip
    shade = 1.0
    if inward[p] and kinds[p] == BOX:
        if face // 2 != 0:
            shade *= 1.0 - corner_shade * math.exp(-(1.0 - abs(lx)) * hx / 0.3)
        if face // 2 != 1:
            shade *= 1.0 - corner_shade * math.exp(-(1.0 - abs(ly)) * hy / 0.3)
        if face // 2 != 2:
            shade *= 1.0 - corner_shade * math.exp(-(1.0 - abs(lz)) * hz / 0.3)
    if sky_rays > 0:
        shade *= 0.25 + 0.75 * _open_sky(
            px, py, pz, nx, ny, nz, 0.6, sky_rays, kinds, inward, frames, centers, radii, key
        )
    return red * dr * shade + sr, green * dg * shade + sg, blue * db * shade + sb


@inlined
@typing.no_type_check
def _even(met, i, j) -> bool:
    """Whether a pixel and its eight neighbours meet the same face of the same solid."""
    if i == 0 or j == 0 or i == met.shape[0] - 1 or j == met.shape[1] - 1:
        return False
    own = met[i, j]
    for y in range(i - 1, i + 2):
        for x in range(j - 1, j + 2):
            if met[y, x] != own:
                return False
    return True


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
    fx, fy, cx, cy = focal[0], focal[1], point[0], point[1]
    starts, order, bounds = tiles(
        height, width, kinds, inward, frames, centers, radii, corners, world_to_cam, fx, fy, cx, cy
    )
    origins = origins_of(frames, centers, cam_to_world)
    columns = (width + TILE - 1) // TILE
    color = np.zeros((height, width, 3), np.float32)
    ox, oy, oz = cam_to_world[0, 3], cam_to_world[1, 3], cam_to_world[2, 3]
    for i in range(height):
        for j in range(width):
            tile = (i // TILE) * columns + j // TILE
            own = 1 if not everywhere and _even(met, i, j) else side
            red = green = blue = 0.0
            for s in range(own * own):
                u, v = j + (s % own + 0.5) / own, i + (s // own + 0.5) / own
                wx, wy, wz = direction(u, v, fx, fy, cx, cy, cam_to_world)
                if own == 1:
                    t, p = np.float64(depth[i, j]), np.int64(met[i, j]) // 8
                else:
                    t, p = nearest(
                        starts[tile], starts[tile + 1], order, kinds, inward, frames, origins, bounds, wx, wy, wz
                    )
                if p < 0:
                    continue
                key = ((seed * 31 + i) * 4099 + j) * 64 + s
                r, g, b = _shade(
                    p, t, wx, wy, wz, 0.7 / fx / own, key, kinds, inward, frames, centers, radii, halves, gloss,
                    faces, materials, mixes, lights, ambient, corner_shade, atlas, size, level_starts, origins,
                    ox, oy, oz, shadows, sky_rays,
                )  # fmt: skip
                red, green, blue = red + r, green + g, blue + b
            samples = own * own
            color[i, j, 0], color[i, j, 1], color[i, j, 2] = red / samples, green / samples, blue / samples
    return color
