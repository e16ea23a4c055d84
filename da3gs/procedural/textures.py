"""Textures with the statistics of photographs: fractal noise, dead leaves, bricks, weaves, print, wood, pebbles.

Every texture repeats without a seam and comes with all its mip levels, so that far surfaces do not flicker.
"""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np
from numba import njit
from numpy.typing import NDArray

KINDS = ("fractal", "leaves", "bricks", "weave", "print", "wood", "pebbles", "speckle", "plain", "picture", "planks")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextureBank:
    """Square textures of one size with their mip levels, as the ray caster reads them."""

    atlas: NDArray[np.uint8]
    """[textures, texels of all levels, 3]; the square root of reflectance, much like sRGB."""
    size: int
    """Texels along a side of the finest level, a power of two."""
    level_starts: NDArray[np.int64]
    """First texel of each level; the levels halve down to 4 x 4."""
    kinds: tuple[str, ...]
    """What each texture shows, one of ``KINDS``."""

    def of_kind(self, *names: str) -> list[int]:
        """Indices of the textures of these kinds."""
        return [i for i, kind in enumerate(self.kinds) if kind in names]


def make_textures(generator: np.random.Generator, count: int, size: int = 256) -> TextureBank:
    """``count`` textures, the kinds in turn."""
    kinds = tuple(KINDS[i % len(KINDS)] for i in range(count))
    starts, total, side = [], 0, size
    while side >= 4:
        starts.append(total)
        total += side * side
        side //= 2
    atlas = np.empty((count, total, 3), np.uint8)
    for index, kind in enumerate(kinds):
        level = np.clip(_DRAW[kind](generator, size), 0, 1)
        for start in starts:
            side = level.shape[0]
            atlas[index, start : start + side * side] = np.round(level * 255).astype(np.uint8).reshape(-1, 3)
            level = level.reshape(side // 2, 2, side // 2, 2, 3).mean((1, 3))
    return TextureBank(atlas=atlas, size=size, level_starts=np.array(starts, np.int64), kinds=kinds)


def random_color(
    generator: np.random.Generator, saturation: float = 0.35, low: float = 0.1, high: float = 0.95
) -> NDArray:
    """A colour: a random hue, mostly muted, anywhere between dark and bright."""
    hue, value = generator.random() * 2 * math.pi, generator.uniform(low, high)
    amount = min(1.0, abs(generator.normal(0, saturation)))
    wheel = np.array([0.5 + 0.5 * math.cos(hue - shift) for shift in (0.0, 2.094, 4.189)])
    return value * (1 - amount + amount * wheel)


def _noise(generator: np.random.Generator, size: int, slope: float, stretch: float = 1.0) -> NDArray:
    """Seamless noise whose amplitude falls with frequency to the power -slope; zero mean, unit deviation."""
    fy = np.fft.fftfreq(size)[:, None] * size * stretch
    fx = np.fft.rfftfreq(size)[None] * size / stretch
    radius = np.maximum(np.hypot(fx, fy), 1.0)
    spectrum = np.fft.rfft2(generator.standard_normal((size, size))) * radius**-slope
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(size, size))
    return field / (field.std() + 1e-9)


def _palette(generator: np.random.Generator, count: int) -> NDArray:
    base = random_color(generator)
    colors = [base]
    for _ in range(count - 1):
        other = random_color(generator, saturation=0.5)
        colors.append(np.clip(other * 0.7 + base * 0.3 if generator.random() < 0.6 else other, 0, 1))
    return np.array(colors)


def _graded(values: NDArray, colors: NDArray) -> NDArray:
    """Values in [0, 1] through a gradient of colours."""
    stops = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(values, stops, colors[:, c]) for c in range(3)], -1)


def _fractal(generator: np.random.Generator, size: int) -> NDArray:
    slope = generator.uniform(0.9, 1.7)
    field = _noise(generator, size, slope, 2 ** generator.normal(0, 0.4))
    if generator.random() < 0.4:
        field = np.abs(field) * 2 - 1.5
    image = _graded(0.5 + 0.25 * field, _palette(generator, int(generator.integers(2, 5))))
    return image + 0.05 * _noise(generator, size, slope)[..., None] * generator.standard_normal(3)


@njit(cache=True, nogil=True)
@typing.no_type_check
def _drop_leaves(image, centers, radii, shapes, angles, colors, slopes) -> None:
    """Paint opaque discs, ellipses and rectangles one over another, wrapping round the edges."""
    size = image.shape[0]
    for k in range(centers.shape[0]):
        reach = int(radii[k] * 1.5) + 1
        ca, sa = math.cos(angles[k]), math.sin(angles[k])
        ratio = 0.35 + 0.65 * shapes[k]
        for y in range(-reach, reach + 1):
            for x in range(-reach, reach + 1):
                u, v = (ca * x + sa * y) / radii[k], (-sa * x + ca * y) / (radii[k] * ratio)
                inside = max(abs(u), abs(v)) < 1 if k % 3 == 0 else u * u + v * v < 1
                if inside:
                    i, j = (int(centers[k, 1]) + y) % size, (int(centers[k, 0]) + x) % size
                    for c in range(3):
                        image[i, j, c] = colors[k, c] + slopes[k, c] * u


def _leaves(generator: np.random.Generator, size: int, count: int = 0, largest: float = 0.2) -> NDArray:
    count = count or int(generator.integers(400, 2500))
    image = np.full((size, size, 3), 0.5) * random_color(generator)
    low, high = 1.5, largest * size
    u = generator.random(count)
    radii = (low**-2 + u * (high**-2 - low**-2)) ** -0.5
    radii = np.sort(radii)[::-1] if generator.random() < 0.5 else radii
    palette = _palette(generator, int(generator.integers(3, 9)))
    colors = palette[generator.integers(0, len(palette), count)] * generator.uniform(0.6, 1.3, (count, 1))
    _drop_leaves(
        image, generator.random((count, 2)) * size, radii, generator.random(count),
        generator.random(count) * math.pi, colors, generator.normal(0, 0.06, (count, 3)),
    )  # fmt: skip
    return image * (1 + 0.06 * _noise(generator, size, 0.8)[..., None])


def _cells(size: int, rows: int, columns: int, shift: float) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Row and column of each texel's cell in a running bond, and its position in the cell from 0 to 1."""
    y, x = np.meshgrid((np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size, indexing="ij")
    row = np.floor(y * rows).astype(int)
    along = x * columns + (row % 2) * shift
    return row, np.floor(along).astype(int) % columns, y * rows % 1, along % 1


def _bricks(generator: np.random.Generator, size: int) -> NDArray:
    rows = 2 * int(generator.integers(1, 9))
    columns = max(1, int(rows * generator.choice([0.5, 0.5, 1.0, 1.0, 0.25])))
    row, column, v, u = _cells(size, rows, columns, generator.choice([0.0, 0.5, 0.5]))
    base, joint = random_color(generator), random_color(generator, 0.1)
    tone = 1 + generator.normal(0, generator.uniform(0.02, 0.25), (rows, columns, 1))
    tint = generator.normal(0, 0.04, (rows, columns, 3))
    if generator.random() < 0.3:  # a chessboard
        second = random_color(generator)
        other = (np.add.outer(np.arange(rows), np.arange(columns)) % 2)[..., None]
        cells = base * (1 - other) + second * other
    else:
        cells = np.broadcast_to(base, (rows, columns, 3))
    image = (cells * tone + tint)[row, column]
    gap = generator.uniform(0.01, 0.06)
    mortar = (np.minimum(v, 1 - v) < gap) | (np.minimum(u, 1 - u) < gap * columns / rows)
    image = image * (1 + generator.uniform(0.02, 0.12) * _noise(generator, size, 1.0)[..., None])
    return np.where(mortar[..., None], joint * (1 + 0.08 * _noise(generator, size, 0.5)[..., None]), image)


def _planks(generator: np.random.Generator, size: int) -> NDArray:
    rows = int(generator.choice([4, 6, 8]))
    row, column, v, u = _cells(size, rows, 1, generator.random())
    grain = _noise(generator, size, 1.1, 5.0)
    tone = generator.normal(0, 0.12, (rows, 1))[row, column]
    dark = random_color(generator, 0.3, 0.2, 0.5)
    image = _graded(np.clip(0.5 + 0.18 * grain + tone, 0, 1), np.array([dark, dark * generator.uniform(1.2, 2.2)]))
    gap = (np.minimum(v, 1 - v) < 0.025) | (np.minimum(u, 1 - u) < 0.004)
    return np.where(gap[..., None], image * 0.4, image)


def _weave(generator: np.random.Generator, size: int) -> NDArray:
    bands = int(2 ** generator.integers(1, 5))
    palette = _palette(generator, int(generator.integers(2, 5)))
    stripes = palette[generator.integers(0, len(palette), size // 8)]
    across = np.repeat(stripes, 8, 0)[(np.arange(size) * bands) % size]
    image = np.broadcast_to(across[None], (size, size, 3)).copy()
    if generator.random() < 0.6:
        image = 0.5 * image + 0.5 * across[:, None]
    period = int(2 ** generator.integers(2, 5))
    y, x = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    thread = np.sin((x + y) * 2 * math.pi / period) * np.sin((x - y) * 2 * math.pi / period)
    rough = 0.07 * thread + 0.08 * _noise(generator, size, 0.5)
    return image * (1 + rough[..., None])


def _print(generator: np.random.Generator, size: int) -> NDArray:
    paper, ink = random_color(generator, 0.15, 0.6, 1.0), random_color(generator, 0.4, 0.0, 0.35)
    if generator.random() < 0.3:
        paper, ink = ink, paper
    image = np.broadcast_to(paper, (size, size, 3)).copy()
    margin = int(size * generator.uniform(0.04, 0.12))
    y = margin
    while y < size - margin:
        tall = int(size * generator.choice([0.02, 0.025, 0.03, 0.03, 0.12]))
        color = ink if generator.random() < 0.85 else random_color(generator, 0.8)
        x, end = margin, size - margin - int(generator.random() ** 3 * size * 0.5)
        if generator.random() < 0.1:  # a picture in the page
            high = min(int(size * generator.uniform(0.1, 0.3)), size - y)
            block = _fractal(generator, size)[:high, : end - x]
            image[y : y + high, x:end] = block
            y += high
        while x < end:
            wide = max(2, int(tall * generator.uniform(0.3, 0.7)))
            if generator.random() > 0.16:
                image[y : y + tall, x : x + max(1, wide // 4)] = color
                middle = y + int(generator.integers(0, max(1, tall - 1)))
                image[middle : middle + max(1, tall // 4), x : x + wide - 1] = color
                if generator.random() < 0.5:
                    image[y : y + tall, x + wide - 2 : x + wide - 1] = color
            x += wide + max(1, tall // 6)
        y += int(tall * generator.uniform(1.4, 2.2)) + 1
    return image * (1 + 0.03 * _noise(generator, size, 1.0)[..., None])


def _wood(generator: np.random.Generator, size: int) -> NDArray:
    warp = _noise(generator, size, 1.6, 3.0)
    y = np.arange(size)[:, None] / size
    rings = np.sin(2 * math.pi * (int(generator.integers(3, 14)) * y + generator.uniform(0.2, 0.6) * warp))
    fine = _noise(generator, size, 0.7, 8.0)
    dark = random_color(generator, 0.3, 0.15, 0.6)
    light = np.clip(dark * generator.uniform(1.2, 2.0), 0, 1)
    return _graded(np.clip(0.5 + 0.25 * rings + 0.12 * fine, 0, 1), np.array([dark, light]))


@njit(cache=True, nogil=True)
@typing.no_type_check
def _voronoi(size, points) -> tuple:
    """Index of the nearest point of every texel and how much farther the second nearest is, round the edges."""
    index = np.empty((size, size), np.int64)
    edge = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            best, second, owner = 1e9, 1e9, 0
            for k in range(points.shape[0]):
                dx, dy = abs(points[k, 0] * size - j), abs(points[k, 1] * size - i)
                dx, dy = min(dx, size - dx), min(dy, size - dy)
                d = dx * dx + dy * dy
                if d < best:
                    best, second, owner = d, best, k
                elif d < second:
                    second = d
            index[i, j] = owner
            edge[i, j] = math.sqrt(second) - math.sqrt(best)
    return index, edge


def _pebbles(generator: np.random.Generator, size: int) -> NDArray:
    count = int(generator.integers(20, 220))
    index, edge = _voronoi(size, generator.random((count, 2)))
    palette = _palette(generator, 4)
    colors = palette[generator.integers(0, 4, count)] * generator.uniform(0.7, 1.2, (count, 1))
    width = size / math.sqrt(count) * generator.uniform(0.05, 0.25)
    shade = np.clip(edge / width, 0, 1)[..., None]
    image = colors[index] * (0.35 + 0.65 * shade)
    return image * (1 + 0.08 * _noise(generator, size, 0.9)[..., None])


def _speckle(generator: np.random.Generator, size: int) -> NDArray:
    slope = generator.uniform(0.0, 0.7)
    field = 0.7 * _noise(generator, size, slope) + 0.5 * _noise(generator, size, 1.6)
    return random_color(generator) * (1 + generator.uniform(0.08, 0.35) * field[..., None])


def _plain(generator: np.random.Generator, size: int) -> NDArray:
    color = random_color(generator, 0.25, 0.4, 0.98)
    field = 0.03 * _noise(generator, size, 1.7) + generator.uniform(0.0, 0.02) * _noise(generator, size, 0.3)
    return color * (1 + field[..., None])


def _picture(generator: np.random.Generator, size: int) -> NDArray:
    """Something like a photograph or a poster: a shaded background with a few large shapes on it."""
    y = np.linspace(0, 1, size)[:, None]
    slope = np.broadcast_to(y + 0.15 * _noise(generator, size, 1.8), (size, size))
    image = _graded(np.clip(slope, 0, 1), _palette(generator, 4))
    shapes = _leaves(generator, size, int(generator.integers(10, 120)), 0.4)
    mask = _noise(generator, size, 1.9) > generator.uniform(-0.5, 0.8)
    return np.where(mask[..., None], shapes, image)


_DRAW: dict[str, typing.Callable[[np.random.Generator, int], NDArray]] = {
    "fractal": _fractal,
    "leaves": _leaves,
    "bricks": _bricks,
    "weave": _weave,
    "print": _print,
    "wood": _wood,
    "pebbles": _pebbles,
    "speckle": _speckle,
    "plain": _plain,
    "picture": _picture,
    "planks": _planks,
}
