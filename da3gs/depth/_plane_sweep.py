"""Kernels that ask, pixel by pixel, at which multiple of its depth a view agrees best with its neighbours.

All are serial and release the GIL, so that views are worked on side by side. One file, whose cache cannot be stale.
"""

from __future__ import annotations

import math
import typing

import numpy as np
from numba import njit

_kernel = njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
_inline = njit(nogil=True, fastmath={"contract"}, error_model="numpy")

UNSEEN = np.float32(2.0)
_NOISE = 6e-5  # variance of grey values that counts as no texture: 2 steps of 255
_LEAST = 0.5  # share of the window that both views must have


@_inline
@typing.no_type_check
def _box(source, across, target, radius) -> None:
    """Sums over a square window, cut off at the borders."""
    height, width = source.shape
    for y in range(height):
        for x in range(width):
            across[y, x] = source[y, x]
        for shift in range(1, radius + 1):
            for x in range(width - shift):
                across[y, x] += source[y, x + shift]
            for x in range(shift, width):
                across[y, x] += source[y, x - shift]
    for y in range(height):
        for x in range(width):
            target[y, x] = across[y, x]
        for shift in range(1, radius + 1):
            if y + shift < height:
                for x in range(width):
                    target[y, x] += across[y + shift, x]
            if y - shift >= 0:
                for x in range(width):
                    target[y, x] += across[y - shift, x]


@_inline
@typing.no_type_check
def _warp(grey, seen, depth, rays, matrix, offset, stretch, valid, warped, inside) -> None:
    """The other view's grey values where this view's pixels land at ``stretch`` times their depth."""
    height, width = depth.shape
    rows, columns = grey.shape
    for y in range(height):
        for x in range(width):
            inside[y, x] = 0.0
            warped[y, x] = 0.0
            if not valid[y, x]:
                continue
            a, b = rays[y, x, 0], rays[y, x, 1]
            z = depth[y, x] * stretch
            w = z * (matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 2]) + offset[2]
            if w <= 1e-6 * z:
                continue
            u = (z * (matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2]) + offset[0]) / w - 0.5
            v = (z * (matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2]) + offset[1]) / w - 0.5
            if not (u >= 0.0 and v >= 0.0 and u < columns - 1 and v < rows - 1):
                continue
            i, j = int(v), int(u)
            if not (seen[i, j] and seen[i + 1, j + 1] and seen[i, j + 1] and seen[i + 1, j]):
                continue
            s, t = u - j, v - i
            top = grey[i, j] + s * (grey[i, j + 1] - grey[i, j])
            low = grey[i + 1, j] + s * (grey[i + 1, j + 1] - grey[i + 1, j])
            warped[y, x] = top + t * (low - top)
            inside[y, x] = 1.0


@_kernel
@typing.no_type_check
def sweep(grey, valid, depth, rays, others, seen, matrices, offsets, steps, radius, out) -> None:
    """The cost ``out[y, x, label]`` of a pixel at ``exp(steps[label])`` times its depth, 0 (agrees) to 1 (does not).

    ``1 − ZNCC`` of a window in this view and of the same surface in another, cut off at 1; the mean over the better
    half of the views that see it, so that one from which something hides it does not count. ``UNSEEN`` where none does.

    Args:
        grey: [h, w] this view, zero mean.
        valid: bool [h, w].
        depth: [h, w] at the start.
        rays: [h, w, 2] x and y of ``K⁻¹ (u, v, 1)``.
        others: [n, h', w'] grey values of the neighbours.
        seen: bool [n, h', w'].
        matrices: [n, 3, 3] ``K' R`` from this camera to the other.
        offsets: [n, 3] ``K' t``.
        steps: [labels] logarithms of the multiples.
        radius: of the window.
        out: [h, w, labels].
    """
    height, width = grey.shape
    count = others.shape[0]
    maps = np.empty((10, height, width), np.float32)
    warped, inside, product, across = maps[0], maps[1], maps[2], maps[3]
    n, a, b, aa, bb, ab = maps[4], maps[5], maps[6], maps[7], maps[8], maps[9]
    best = np.empty((count, height, width), np.float32)
    least = _LEAST * (2 * radius + 1) ** 2
    for label in range(len(steps)):
        stretch = np.float32(math.exp(steps[label]))
        for k in range(count):
            _warp(others[k], seen[k], depth, rays, matrices[k], offsets[k], stretch, valid, warped, inside)
            _box(inside, across, n, radius)
            _box(warped, across, b, radius)
            for y in range(height):
                for x in range(width):
                    product[y, x] = grey[y, x] * inside[y, x]
            _box(product, across, a, radius)
            for y in range(height):
                for x in range(width):
                    product[y, x] = grey[y, x] * warped[y, x]
            _box(product, across, ab, radius)
            for y in range(height):
                for x in range(width):
                    product[y, x] = grey[y, x] * grey[y, x] * inside[y, x]
            _box(product, across, aa, radius)
            for y in range(height):
                for x in range(width):
                    product[y, x] = warped[y, x] * warped[y, x]
            _box(product, across, bb, radius)
            for y in range(height):
                for x in range(width):
                    cost = np.float32(2.0)
                    if inside[y, x] > 0.0 and n[y, x] >= least:
                        share = 1.0 / n[y, x]
                        va = aa[y, x] * share - (a[y, x] * share) ** 2
                        vb = bb[y, x] * share - (b[y, x] * share) ** 2
                        cov = ab[y, x] * share - a[y, x] * b[y, x] * share * share
                        like = cov / math.sqrt((max(va, 0.0) + _NOISE) * (max(vb, 0.0) + _NOISE))
                        cost = np.float32(min(1.0, 1.0 - like))
                    best[k, y, x] = cost
        _better_half(best, out, label)


@_kernel
@typing.no_type_check
def one_surface(depth, valid, rays, others, matrices, offsets, steps, same, out) -> None:
    """Whether a pixel at ``exp(steps[label])`` times its depth lies on what other views see, or hides it from them.

    ``out[y, x, label]``: the mean over the others of -1 on their surface, 1 well in front of it, 0 behind or out of
    sight; ``same`` is the difference of log depth at which either begins to count.

    Args:
        depth: [h, w].
        valid: bool [h, w].
        rays: [h, w, 2] x and y of ``K⁻¹ (u, v, 1)``.
        others: [n, h', w'] the depth of the neighbours.
        matrices: [n, 3, 3] ``K' R`` from this camera to the other.
        offsets: [n, 3] ``K' t``.
        steps: [labels] logarithms of the multiples.
        same: positive.
        out: [h, w, labels], zeros.
    """
    height, width = depth.shape
    count, rows, columns = others.shape
    for y in range(height):
        for x in range(width):
            if not valid[y, x]:
                continue
            a, b = rays[y, x, 0], rays[y, x, 1]
            for k in range(count):
                m, o = matrices[k], offsets[k]
                mu, mv = m[0, 0] * a + m[0, 1] * b + m[0, 2], m[1, 0] * a + m[1, 1] * b + m[1, 2]
                mw = m[2, 0] * a + m[2, 1] * b + m[2, 2]
                for label in range(len(steps)):
                    z = depth[y, x] * math.exp(steps[label])
                    w = z * mw + o[2]
                    if w <= 1e-6 * z:
                        continue
                    u, v = (z * mu + o[0]) / w, (z * mv + o[1]) / w
                    if not (u >= 0.0 and v >= 0.0 and u < columns and v < rows):
                        continue
                    ahead = math.log(others[k, int(v), int(u)] / w) / same
                    out[y, x, label] += (
                        abs(ahead) - 1.0 if abs(ahead) < 1.0 else max(0.0, min(1.0, ahead - 1.0))
                    ) / count


@_inline
@typing.no_type_check
def _better_half(best, out, label) -> None:
    count, height, width = best.shape
    sorted_costs = np.empty(count, np.float32)
    for y in range(height):
        for x in range(width):
            visible = 0
            for k in range(count):
                cost = best[k, y, x]
                if cost > 1.5:
                    continue
                at = visible
                while at > 0 and sorted_costs[at - 1] > cost:
                    sorted_costs[at] = sorted_costs[at - 1]
                    at -= 1
                sorted_costs[at] = cost
                visible += 1
            half = (visible + 1) // 2
            total = np.float32(0.0)
            for k in range(half):
                total += sorted_costs[k]
            out[y, x, label] = total / half if half > 0 else UNSEEN


@_inline
@typing.no_type_check
def _path(before, cost, total, after, small, large) -> None:
    """One step of semi-global matching along a path: ``after`` from ``before``, added to ``total``."""
    labels = len(cost)
    least = before[0]
    for label in range(1, labels):
        least = min(least, before[label])
    for label in range(labels):
        value = min(before[label], least + large)
        if label > 0:
            value = min(value, before[label - 1] + small)
        if label < labels - 1:
            value = min(value, before[label + 1] + small)
        after[label] = cost[label] + value - least
        total[label] += after[label]


@_kernel
@typing.no_type_check
def smooth_costs(volume, jumps_x, jumps_y, small, large, total) -> None:
    """Semi-global matching along rows and columns: ``total`` gets the costs with smoothness in them.

    Args:
        volume: [h, w, labels].
        jumps_x: [h, w] how far log depth jumps from the pixel's left neighbour; a label may jump there too.
        jumps_y: the same from the upper neighbour.
        small: penalty of a change by one label.
        large: penalty of any other change where depth does not jump.
        total: [h, w, labels], zeros.
    """
    height, width, labels = volume.shape
    one, two = np.empty(labels, np.float32), np.empty(labels, np.float32)
    for y in range(height):
        one[:] = 0.0
        for x in range(width):
            weight = 1.0 / (1.0 + (jumps_x[y, x] / 0.05) ** 2)
            _path(one, volume[y, x], total[y, x], two, small * weight, large * weight)
            one, two = two, one
        one[:] = 0.0
        for back in range(width):
            x = width - 1 - back
            weight = 1.0 / (1.0 + (jumps_x[y, x + 1] / 0.05) ** 2) if x + 1 < width else 1.0
            _path(one, volume[y, x], total[y, x], two, small * weight, large * weight)
            one, two = two, one
    for x in range(width):
        one[:] = 0.0
        for y in range(height):
            weight = 1.0 / (1.0 + (jumps_y[y, x] / 0.05) ** 2)
            _path(one, volume[y, x], total[y, x], two, small * weight, large * weight)
            one, two = two, one
        one[:] = 0.0
        for back in range(height):
            y = height - 1 - back
            weight = 1.0 / (1.0 + (jumps_y[y + 1, x] / 0.05) ** 2) if y + 1 < height else 1.0
            _path(one, volume[y, x], total[y, x], two, small * weight, large * weight)
            one, two = two, one


@_kernel
@typing.no_type_check
def best_step(total, steps, out) -> None:
    """The step of the least cost, between labels by a parabola; ``steps`` are evenly spaced."""
    height, width, labels = total.shape
    spacing = steps[1] - steps[0]
    for y in range(height):
        for x in range(width):
            at = 0
            for label in range(1, labels):
                if total[y, x, label] < total[y, x, at]:
                    at = label
            shift = 0.0
            if 0 < at < labels - 1:
                low, mid, high = total[y, x, at - 1], total[y, x, at], total[y, x, at + 1]
                bend = low - 2.0 * mid + high
                if bend > 1e-9:
                    shift = 0.5 * (low - high) / bend
            out[y, x] = steps[at] + shift * spacing
