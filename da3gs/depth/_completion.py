"""Kernels that complete a map from what is known of it, and that tell surfaces from specks.

Serial and without the GIL, so that views are worked on side by side. One file, whose cache cannot be stale.
"""

from __future__ import annotations

import typing

import numpy as np

from da3gs.rendering._jit import kernel

_OVER = np.float32(1.6)  # over-relaxation


@kernel
@typing.no_type_check
def relax(values, data, trust, across, down, slopes_x, slopes_y, rounds) -> None:
    """Gauss-Seidel with over-relaxation on ``Σ t (v - d)² + Σ e (v - v' - s (p - p'))²`` over pixels and neighbours.

    Args:
        values: [h, w], from and to.
        data: [h, w] what is known.
        trust: [h, w] how well, 0 where it is not.
        across: [h, w] how closely a pixel goes with its left neighbour.
        down: [h, w] the same of the upper neighbour.
        slopes_x: [h, w] expected change to the right, by a pixel.
        slopes_y: [h, w] expected change downwards.
        rounds: how often all pixels are visited.
    """
    height, width = values.shape
    half = np.float32(0.5)
    for _ in range(rounds):
        for color in range(2):
            for y in range(height):
                for x in range((y + color) % 2, width, 2):
                    t, sx, sy = trust[y, x], slopes_x[y, x], slopes_y[y, x]
                    total, whole = t * data[y, x], t
                    if x > 0:
                        e = across[y, x]
                        total += e * (values[y, x - 1] + half * (sx + slopes_x[y, x - 1]))
                        whole += e
                    if x + 1 < width:
                        e = across[y, x + 1]
                        total += e * (values[y, x + 1] - half * (sx + slopes_x[y, x + 1]))
                        whole += e
                    if y > 0:
                        e = down[y, x]
                        total += e * (values[y - 1, x] + half * (sy + slopes_y[y - 1, x]))
                        whole += e
                    if y + 1 < height:
                        e = down[y + 1, x]
                        total += e * (values[y + 1, x] - half * (sy + slopes_y[y + 1, x]))
                        whole += e
                    if whole > 1e-12:
                        values[y, x] += _OVER * (total / whole - values[y, x])


@kernel
@typing.no_type_check
def forget_specks(inverse, keep, apart, least, seen, queue) -> None:
    """Clear ``keep`` where the surface that a pixel is connected to has fewer than ``least`` pixels.

    Neighbours are connected where their inverse depth differs by less than the share ``apart``.

    Args:
        inverse: [h, w].
        keep: bool [h, w], from and to.
        apart: a share.
        least: pixels.
        seen: bool [h, w], all false.
        queue: int64 [h w], for use inside.
    """
    height, width = inverse.shape
    for y in range(height):
        for x in range(width):
            if not keep[y, x] or seen[y, x]:
                continue
            count, head = 1, 0
            queue[0] = y * width + x
            seen[y, x] = True
            while head < count:
                j, i = queue[head] // width, queue[head] % width
                head += 1
                for way in range(4):
                    n, m = j + (way == 0) - (way == 1), i + (way == 2) - (way == 3)
                    if n < 0 or m < 0 or n >= height or m >= width or seen[n, m] or not keep[n, m]:
                        continue
                    if abs(inverse[n, m] - inverse[j, i]) > apart * inverse[j, i]:
                        continue
                    seen[n, m] = True
                    queue[count] = n * width + m
                    count += 1
            if count < least:
                for k in range(count):
                    keep[queue[k] // width, queue[k] % width] = False
