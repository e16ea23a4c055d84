"""Kernels of PatchMatch stereo: planes tried pixel by pixel, and which pixels other views bear out.

A plane in space is a plane in inverse depth over the pixels of a view: three numbers a pixel, the inverse depth at its
centre and how much it changes by a pixel to the right and downwards. So a neighbour's plane is carried over by two
multiplications, and a window is warped into another view by one homography, linear in those numbers.

All kernels are serial and release the GIL, so that rows are worked on side by side: pixels are updated like the squares
of a chessboard, the white ones from the black ones alone, and random numbers follow from the place of a pixel. One
file, whose cache cannot be stale.
"""

from __future__ import annotations

import math
import typing

import numpy as np

from da3gs.depth._lanes import inline, random_step, sampled, seeded
from da3gs.rendering._jit import kernel
from da3gs.rendering._simd import LANES, bits_of, broadcast, load, select, store, total
from da3gs.rendering._simd_math import exp2

_NOISE = np.float32(4.0)  # variance of grey values that counts as no texture: 2 steps of 255
_WORST = np.float32(1.0)  # cost of windows that differ, and of what a view does not see
_COLOR = np.float32(0.5 * 1.4427 / 0.08**2)  # how fast a sample loses weight with its grey value's distance
_STEEPEST = np.float32(0.12)  # cosine of the angle between a ray and the plane's normal: planes are not seen edge-on
_PRIOR_REACH = np.float32(8.0)  # one over the relative difference from which on that cost no longer grows
_GEOMETRIC, _GEOMETRIC_MOST = np.float32(0.15), np.float32(2.0)  # cost of a pixel's error in another view, at most
_FAR = (3, 5, 9, 15)  # distances, odd, of what is carried over from afar

_COLUMNS = np.array([i for j in (-5, -3, -1, 1, 3, 5) for i in (-5, -3, -1, 1, 3, 5) if abs(i * j) < 25], np.float32)
_ROWS = np.array([j for j in (-5, -3, -1, 1, 3, 5) for i in (-5, -3, -1, 1, 3, 5) if abs(i * j) < 25], np.float32)
_NEAR = np.exp(-0.5 * (_COLUMNS**2 + _ROWS**2) / 4.0**2).astype(np.float32)
_SAMPLES = 32
_FIRST = _SAMPLES  # where in a window's numbers the weights begin, then their sums


@kernel
@typing.no_type_check
def pack(grey, words) -> None:
    """Grey values 0 to 1 (NaN: nothing) as words of a pixel, its right, lower and lower right neighbour.

    A byte is 1 to 255; a word of 0 says that one of the four is not there.
    """
    height, width = grey.shape
    for y in range(height):
        for x in range(width):
            words[y, x] = 0
    for y in range(height - 1):
        for x in range(width - 1):
            a, b, c, d = grey[y, x], grey[y, x + 1], grey[y + 1, x], grey[y + 1, x + 1]
            if a + b + c + d == a + b + c + d:
                low = np.uint32(1.5 + 254.0 * a) | (np.uint32(1.5 + 254.0 * b) << np.uint32(8))
                high = np.uint32(1.5 + 254.0 * c) | (np.uint32(1.5 + 254.0 * d) << np.uint32(8))
                words[y, x] = low | (high << np.uint32(16))


@inline
@typing.no_type_check
def _window(grey, y, x, spacing, window) -> float:
    """Into ``window``: grey values around a pixel less its own, their weights, the sums; returns the variance."""
    height, width = grey.shape
    center = grey[y, x]
    for at in range(_SAMPLES):
        row = y + (int(_ROWS[at]) * spacing) // 2
        column = x + (int(_COLUMNS[at]) * spacing) // 2
        away = np.float32(np.nan)
        if row >= 0 and row < height and column >= 0 and column < width:
            away = grey[row, column] - center
        gone = away != away
        window[at] = np.float32(0.0) if gone else np.float32(254.0) * away
        window[_FIRST + at] = np.float32(-1e9) if gone else -_COLOR * away * away
    return _weighed(window)


@inline
@typing.no_type_check
def _weighed(window) -> float:
    """Weights from their logarithms in ``window``, and their sums."""
    near = load(_NEAR, 0), load(_NEAR, LANES)
    one = exp2(load(window, _FIRST)) * near[0]
    two = exp2(load(window, _FIRST + LANES)) * near[1]
    a, b = load(window, 0), load(window, LANES)
    store(window, _FIRST, one)
    store(window, _FIRST + LANES, two)
    aw, bw = one * a, two * b
    whole, first, second = total(one + two), total(aw + bw), total(aw * a + bw * b)
    share = np.float32(1.0) / whole
    first *= share
    second = max(second * share - first * first, np.float32(0.0))
    window[2 * _SAMPLES], window[2 * _SAMPLES + 1], window[2 * _SAMPLES + 2] = whole, first, second
    return second


@inline
@typing.no_type_check
def _unlike(window, spacing, others, k, ways, u, v, w, gx, gy) -> float:
    """``1 − NCC`` of a window in this view and where its plane lies in another, at most 1."""
    rows, columns = others.shape[1:]
    x0 = ways[k, 0] * u + ways[k, 1] * v + ways[k, 2] + w * ways[k, 3]
    y0 = ways[k, 4] * u + ways[k, 5] * v + ways[k, 6] + w * ways[k, 7]
    z0 = ways[k, 8] * u + ways[k, 9] * v + ways[k, 10] + w * ways[k, 11]
    if not (z0 > 0.0 and x0 > 0.0 and y0 > 0.0 and x0 < z0 * columns and y0 < z0 * rows):
        return _WORST
    step = np.float32(0.5) * np.float32(spacing)
    xx, xy = step * (ways[k, 0] + gx * ways[k, 3]), step * (ways[k, 1] + gy * ways[k, 3])
    yx, yy = step * (ways[k, 4] + gx * ways[k, 7]), step * (ways[k, 5] + gy * ways[k, 7])
    zx, zy = step * (ways[k, 8] + gx * ways[k, 11]), step * (ways[k, 9] + gy * ways[k, 11])
    # the centres of pixels stand at halves
    x0, y0, xx, xy, yx, yy = (
        x0 - np.float32(0.5) * z0,
        y0 - np.float32(0.5) * z0,
        xx - np.float32(0.5) * zx,
        xy - np.float32(0.5) * zy,
        yx - np.float32(0.5) * zx,
        yy - np.float32(0.5) * zy,
    )
    a, b = load(_COLUMNS, 0), load(_ROWS, 0)
    share = np.float32(1.0) / (a * zx + b * zy + z0)
    one, seen_one = sampled(others, k, (a * xx + b * xy + x0) * share, (a * yx + b * yy + y0) * share)
    a, b = load(_COLUMNS, LANES), load(_ROWS, LANES)
    share = np.float32(1.0) / (a * zx + b * zy + z0)
    two, seen_two = sampled(others, k, (a * xx + b * xy + x0) * share, (a * yx + b * yy + y0) * share)
    weight_one, weight_two = load(window, _FIRST), load(window, _FIRST + LANES)
    own_one, own_two = load(window, 0), load(window, LANES)
    all_seen = (bits_of(seen_one) & bits_of(seen_two)) == np.uint32(0xFFFF)
    if not all_seen:
        zero = broadcast(np.float32(0.0))
        weight_one, weight_two = select(seen_one, weight_one, zero), select(seen_two, weight_two, zero)
        one, two = select(seen_one, one, zero), select(seen_two, two, zero)
    other_one, other_two = weight_one * one, weight_two * two
    first, second = total(other_one + other_two), total(other_one * one + other_two * two)
    mixed = total(other_one * own_one + other_two * own_two)
    whole, own_first, own_second = window[2 * _SAMPLES], window[2 * _SAMPLES + 1], window[2 * _SAMPLES + 2]
    if not all_seen:
        before = whole
        whole = total(weight_one + weight_two)
        if not whole > np.float32(0.5) * before:
            return _WORST
        weight_one, weight_two = weight_one * own_one, weight_two * own_two
        own_first = total(weight_one + weight_two) / whole
        own_second = total(weight_one * own_one + weight_two * own_two) / whole - own_first * own_first
        own_second = max(own_second, np.float32(0.0))
    share = np.float32(1.0) / whole
    first *= share
    second = max(second * share - first * first, np.float32(0.0))
    like = (mixed * share - own_first * first) / math.sqrt((own_second + _NOISE) * (second + _NOISE))
    return min(_WORST, np.float32(1.0) - like)


@inline
@typing.no_type_check
def _return_error(planes, k, ways, u, v, w) -> float:
    """How many pixels off a point comes back that goes to where another view sees it, at that view's depth."""
    rows, columns = planes.shape[1:3]
    z = ways[k, 8] * u + ways[k, 9] * v + ways[k, 10] + w * ways[k, 11]
    if not z > 0.0:
        return _GEOMETRIC_MOST
    x = (ways[k, 0] * u + ways[k, 1] * v + ways[k, 2] + w * ways[k, 3]) / z
    y = (ways[k, 4] * u + ways[k, 5] * v + ways[k, 6] + w * ways[k, 7]) / z
    if not (x >= 0.0 and y >= 0.0 and x < columns and y < rows):
        return _GEOMETRIC_MOST
    column, row = int(x), int(y)
    there = planes[k, row, column, 0]
    there += planes[k, row, column, 1] * (x - column - np.float32(0.5))
    there += planes[k, row, column, 2] * (y - row - np.float32(0.5))
    z = ways[k, 20] * x + ways[k, 21] * y + ways[k, 22] + there * ways[k, 23]
    if not z > 0.0:
        return _GEOMETRIC_MOST
    dx = (ways[k, 12] * x + ways[k, 13] * y + ways[k, 14] + there * ways[k, 15]) / z - u
    dy = (ways[k, 16] * x + ways[k, 17] * y + ways[k, 18] + there * ways[k, 19]) / z - v
    away = math.sqrt(dx * dx + dy * dy)
    return away if away < _GEOMETRIC_MOST else _GEOMETRIC_MOST


@inline
@typing.no_type_check
def _cost(
    window, spacing, others, ways, planes, geometric, best,
    prior, prior_weight, u, v, w, gx, gy, each,
) -> float:  # fmt: skip
    """What a plane costs a pixel: the mean over the views that like it best, and how far it is from the prior."""
    count = len(others)
    kept = 0
    for k in range(count):
        cost = _unlike(window, spacing, others, k, ways, u, v, w, gx, gy)
        if geometric and cost < _WORST:
            cost += _GEOMETRIC * _return_error(planes, k, ways, u, v, w)
        at = kept
        while at > 0 and each[at - 1] > cost:
            if at < best:
                each[at] = each[at - 1]
            at -= 1
        if at < best:
            each[at] = cost
            kept = min(kept + 1, best)
    total = np.float32(0.0)
    for k in range(kept):
        total += each[k]
    away = abs(w / prior - np.float32(1.0)) * _PRIOR_REACH
    return total / kept + prior_weight * min(away, np.float32(1.0))


@inline
@typing.no_type_check
def _sound(w, gx, gy, u, v, lens, bounds) -> bool:
    """Whether a plane is within the bounds of depth and not seen edge-on."""
    if not (w > bounds[0] and w < bounds[1]):
        return False
    nx, ny = gx * lens[0], gy * lens[1]
    nz = w - gx * (u - lens[2]) - gy * (v - lens[3])
    rx, ry = (u - lens[2]) / lens[0], (v - lens[3]) / lens[1]
    return w * w > _STEEPEST * _STEEPEST * (nx * nx + ny * ny + nz * nz) * (rx * rx + ry * ry + np.float32(1.0))


@kernel
@typing.no_type_check
def rate_rows(
    first, last, grey, plane, prior, prior_weight, spacing, others, ways,
    planes, geometric, best, costs,
) -> None:  # fmt: skip
    """``costs[y, x]`` of the planes that the pixels of some rows have; see ``improve_rows``."""
    window, each = np.empty(_FIRST + _SAMPLES + 3, np.float32), np.empty(len(others), np.float32)
    for y in range(first, last):
        for x in range(grey.shape[1]):
            if grey[y, x] != grey[y, x]:
                continue
            _window(grey, y, x, spacing, window)
            u, v = np.float32(x) + np.float32(0.5), np.float32(y) + np.float32(0.5)
            costs[y, x] = _cost(
                window, spacing, others, ways, planes, geometric, best,
                prior[y, x, 0], prior_weight, u, v, plane[y, x, 0], plane[y, x, 1], plane[y, x, 2], each,
            )  # fmt: skip


@inline
@typing.no_type_check
def _candidates(plane, prior, costs, state, y, x, reach, wide, lens, bounds, near, far, tried) -> int:
    """Into ``tried``: planes of neighbours, the prior's, and random ones near the pixel's own; returns how many."""
    height, width = costs.shape
    w, gx, gy = plane[y, x, 0], plane[y, x, 1], plane[y, x, 2]
    count = 0
    _places(costs, y, x, height, width, near, far)
    for group in range(2):
        places = near if group == 0 else far
        for _take in range(2):
            at, low = -1, np.float32(1e9)
            for i in range(4):
                if places[i, 0] >= 0 and costs[places[i, 0], places[i, 1]] < low:
                    at, low = i, costs[places[i, 0], places[i, 1]]
            if at < 0:
                continue
            j, i = places[at, 0], places[at, 1]
            places[at, 0] = -1
            tried[count, 1], tried[count, 2] = plane[j, i, 1], plane[j, i, 2]
            tried[count, 0] = plane[j, i, 0] + plane[j, i, 1] * (x - i) + plane[j, i, 2] * (y - j)
            count += 1
    tried[count] = prior[y, x]
    count += 1
    for trial in range(4):
        state, one = random_step(state)
        state, two = random_step(state)
        state, three = random_step(state)
        a, b, c = w, gx, gy
        if trial == 2 and wide:
            j = min(int((two + np.float32(1.0)) * np.float32(0.5 * height)), height - 1)
            i = min(int((three + np.float32(1.0)) * np.float32(0.5 * width)), width - 1)
            if (x // 2 + y) % 2 == 0:
                a = prior[j, i, 0] * math.exp(np.float32(0.3) * one)
                b, c = prior[j, i, 1], prior[j, i, 2]
            else:  # what stands near may be expected nowhere
                a = bounds[0] * math.exp(np.float32(0.5) * (one + np.float32(1.0)) * math.log(bounds[1] / bounds[0]))
                b, c = w * 0, w * 0
        elif trial == 0 or trial == 2:
            a = w * math.exp(reach * one)
            b, c = gx * a / w, gy * a / w
        elif trial == 3:
            a = w * math.exp(np.float32(0.1) * reach * one)
        if trial == 1 or (trial == 2 and not wide):
            b += np.float32(4.0) * reach * two * a / lens[0]
            c += np.float32(4.0) * reach * three * a / lens[1]
        elif trial == 3:
            b += np.float32(0.5) * reach * two * a / lens[0]
            c += np.float32(0.5) * reach * three * a / lens[1]
        tried[count, 0], tried[count, 1], tried[count, 2] = a, b, c
        count += 1
    return count


@kernel
@typing.no_type_check
def improve_rows(
    first, last, color, seed, reach, wide, grey, plane, prior, prior_weight, spacing, others, ways,
    planes, geometric, best, lens, bounds, costs,
) -> None:  # fmt: skip
    """One half sweep over some rows: pixels of one colour of the chessboard take a better plane where one is found.

    Tried are the planes of the neighbours (the best two of the four next to the pixel, the best two of those further
    away), the prior's, and random ones near the pixel's own.

    Args:
        first: of the rows.
        last: one past them.
        color: 0 or 1: pixels with ``(x + y) % 2 == color`` change.
        seed: of the random numbers of this half sweep.
        reach: how far from its own plane a pixel looks, a share of inverse depth.
        wide: whether it also looks at depth that is expected elsewhere in the picture, and at any within the bounds.
        grey: [h, w] this view; NaN where it says nothing.
        plane: [h, w, 3] inverse depth at the pixel's centre and its slopes.
        prior: [h, w, 3] the plane that is expected.
        prior_weight: what it costs to be far from it.
        spacing: of the window's samples in pixels.
        others: [n, h', w'] words of the other views, as ``pack`` makes them.
        ways: [n, 24] ``K' R K⁻¹`` beside ``K' t`` from this view to the other, row by row, then the way back.
        planes: [n, h', w', 3] planes of the other views.
        geometric: whether the other views' depth counts.
        best: how many views count, those that like the plane best.
        lens: fx, fy, cx, cy.
        bounds: least and greatest inverse depth.
        costs: [h, w] of the planes.
    """
    width = grey.shape[1]
    window, each = np.empty(_FIRST + _SAMPLES + 3, np.float32), np.empty(len(others), np.float32)
    tried = np.empty((9, 3), np.float32)
    near, far = np.empty((4, 2), np.int64), np.empty((4, 2), np.int64)
    for y in range(first, last):
        for x in range((y + color) % 2, width, 2):
            if grey[y, x] != grey[y, x]:
                continue
            u, v = np.float32(x) + np.float32(0.5), np.float32(y) + np.float32(0.5)
            state = seeded(seed, x, y)
            w, gx, gy, cost = plane[y, x, 0], plane[y, x, 1], plane[y, x, 2], costs[y, x]
            count = _candidates(plane, prior, costs, state, y, x, reach, wide, lens, bounds, near, far, tried)
            ready = False
            for i in range(count):
                a, b, c = tried[i, 0], tried[i, 1], tried[i, 2]
                if not _sound(a, b, c, u, v, lens, bounds):
                    continue
                change = abs(a - w) + np.float32(2.0) * (abs(b - gx) + abs(c - gy))
                if change < np.float32(2e-5) * w:
                    continue
                if not ready:
                    _window(grey, y, x, spacing, window)
                    ready = True
                found = _cost(
                    window, spacing, others, ways, planes, geometric, best,
                    prior[y, x, 0], prior_weight, u, v, a, b, c, each,
                )  # fmt: skip
                if found < cost:
                    cost, w, gx, gy = found, a, b, c
            plane[y, x, 0], plane[y, x, 1], plane[y, x, 2], costs[y, x] = w, gx, gy, cost


@inline
@typing.no_type_check
def _places(costs, y, x, height, width, near, far) -> None:
    """The four neighbours, and in each direction the cheapest of some pixels further away; -1 outside."""
    for way in range(4):
        dy, dx = (way == 0) - (way == 1), (way == 2) - (way == 3)
        j, i = y + dy, x + dx
        inside = j >= 0 and j < height and i >= 0 and i < width
        near[way, 0], near[way, 1] = (j if inside else -1), i
        far[way, 0], low = -1, np.float32(1e9)
        for distance in _FAR:
            j, i = y + dy * distance, x + dx * distance
            if j >= 0 and j < height and i >= 0 and i < width and costs[j, i] < low:
                far[way, 0], far[way, 1], low = j, i, costs[j, i]


@kernel
@typing.no_type_check
def confirm_rows(
    first, last, grey, plane, spacing, others, ways, planes,
    apart, alike, votes, texture,
) -> None:  # fmt: skip
    """How many other views bear a pixel's plane out, in geometry and in looks; and the window's variance.

    Args:
        apart: pixels that a point may be off when it comes back from another view.
        alike: the cost that windows may have at most.
        votes: uint8 [h, w].
        texture: [h, w].
    """
    window = np.empty(_FIRST + _SAMPLES + 3, np.float32)
    for y in range(first, last):
        for x in range(grey.shape[1]):
            votes[y, x] = 0
            if grey[y, x] != grey[y, x]:
                continue
            texture[y, x] = _window(grey, y, x, spacing, window)
            u, v = np.float32(x) + np.float32(0.5), np.float32(y) + np.float32(0.5)
            w, gx, gy = plane[y, x, 0], plane[y, x, 1], plane[y, x, 2]
            for k in range(len(others)):
                if _return_error(planes, k, ways, u, v, w) > apart:
                    continue
                cost = _unlike(window, spacing, others, k, ways, u, v, w, gx, gy)
                if cost < alike:
                    votes[y, x] += 1
