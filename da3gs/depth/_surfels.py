"""Kernels that make one layer of the surfaces that several views see: who shows a place best, and in what colour.

Planes are inverse depth at a pixel's centre and its slopes. Serial and without the GIL, so that rows are worked on side
by side. One file, whose cache cannot be stale.
"""

from __future__ import annotations

import typing

import numpy as np

from da3gs.depth._lanes import inline
from da3gs.rendering._jit import kernel

_SAME = np.float32(0.01)  # relative difference of inverse depth at which two views mean one surface
_AHEAD = np.float32(1.03)  # how much nearer than what another view shows a guess must not be
_ROUND = np.float32(1.0)  # frames to each side of a frame that count as right before the camera
_BEFORE = np.float32(1.4)  # how much nearer than all that the frame shows a guess must not be there
_BETTER = np.float32(1.25)  # pixels of another view for one of this, from which on that view shows a place
_BACK, _MOVES = np.float32(0.92), 20  # a guess that stands in the way moves back to this share, so many times at most
KEPT, YIELDED, BARRED = 1, 2, 3


@inline
@typing.no_type_check
def _seen_from(ways, k, u, v, w) -> tuple:
    """Where a point of inverse depth w appears in another view, and its inverse depth there; 0 where it is behind."""
    x = ways[k, 0] * u + ways[k, 1] * v + ways[k, 2] + w * ways[k, 3]
    y = ways[k, 4] * u + ways[k, 5] * v + ways[k, 6] + w * ways[k, 7]
    z = ways[k, 8] * u + ways[k, 9] * v + ways[k, 10] + w * ways[k, 11]
    if not z > np.float32(1e-6):
        return np.float32(0.0), np.float32(0.0), np.float32(0.0)
    return x / z, y / z, w / z


@inline
@typing.no_type_check
def _pixels_for_one(ways, k, u, v, w, gx, gy) -> float:
    """How many pixels of another view a pixel of this one covers, on its plane."""
    x = ways[k, 0] * u + ways[k, 1] * v + ways[k, 2] + w * ways[k, 3]
    y = ways[k, 4] * u + ways[k, 5] * v + ways[k, 6] + w * ways[k, 7]
    z = ways[k, 8] * u + ways[k, 9] * v + ways[k, 10] + w * ways[k, 11]
    zx, zy = ways[k, 8] + gx * ways[k, 11], ways[k, 9] + gy * ways[k, 11]
    xu, xv = ways[k, 0] + gx * ways[k, 3] - x / z * zx, ways[k, 1] + gy * ways[k, 3] - x / z * zy
    yu, yv = ways[k, 4] + gx * ways[k, 7] - y / z * zx, ways[k, 5] + gy * ways[k, 7] - y / z * zy
    return abs(xu * yv - xv * yu) / (z * z)


@inline
@typing.no_type_check
def _there(planes, k, x, y, column, row) -> float:
    """Inverse depth of another view at a place in a pixel."""
    half = np.float32(0.5)
    plane = planes[k, row, column]
    return plane[0] + plane[1] * (x - column - half) + plane[2] * (y - row - half)


@inline
@typing.no_type_check
def _stands_before(view, planes, nearest, ways, u, v, w) -> bool:
    """Whether a point would hide from another view what that shows, or stands right before that camera.

    Nearer than all that a camera sees and just outside its frame, a splat would still reach into the picture.
    """
    count, height, width, _ = planes.shape
    found = False
    for k in range(count):
        if k == view or found:
            continue
        a, b, c = _seen_from(ways, k, u, v, w)
        if not c > np.float32(0.0):
            continue
        if a >= 0.0 and b >= 0.0 and a < width and b < height:
            column, row = int(a), int(b)
            there = _there(planes, k, a, b, column, row)
            found = there > 0.0 and c > _AHEAD * there
        elif a >= -_ROUND * width and b >= -_ROUND * height and a < (1 + _ROUND) * width and b < (1 + _ROUND) * height:
            found = c > _BEFORE * nearest[k]
    return found


@inline
@typing.no_type_check
def _sampled(photos, k, sizes, a, b) -> tuple:
    """The colour of a fine photo at a place of its coarse grid, between four pixels."""
    half, least = np.float32(0.5), np.float32(0.0)
    s = a * np.float32(sizes[k, 1]) / np.float32(sizes[k, 3]) - half
    t = b * np.float32(sizes[k, 0]) / np.float32(sizes[k, 2]) - half
    s = min(max(s, least), np.float32(sizes[k, 1] - 1.001))
    t = min(max(t, least), np.float32(sizes[k, 0] - 1.001))
    i, j = int(s), int(t)
    s, t = s - i, t - j
    p, q = photos[k, j], photos[k, j + 1]
    aa, ab, ba, bb = (1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t
    red = aa * p[i, 0] + ab * p[i + 1, 0] + ba * q[i, 0] + bb * q[i + 1, 0]
    green = aa * p[i, 1] + ab * p[i + 1, 1] + ba * q[i, 1] + bb * q[i + 1, 1]
    blue = aa * p[i, 2] + ab * p[i + 1, 2] + ba * q[i, 2] + bb * q[i + 1, 2]
    return np.float32(red), np.float32(green), np.float32(blue)


@kernel
@typing.no_type_check
def place_rows(first, last, view, planes, votes, nearest, ways, place, moved) -> None:
    """Which pixels of some rows of a view show their place best, and where guesses may stand.

    A pixel that others bear out yields to another view that sees the same surface with more pixels, or with about as
    many where that view comes first. A guess that would stand in front of what another view shows, or right before its
    camera, moves back until it does not; where it cannot, it is barred.

    Args:
        first: of the rows.
        last: one past them.
        view: whose rows they are.
        planes: [V, h, w, 3] of all views.
        votes: uint8 [V, h, w], 0 for a guess.
        nearest: [V] the greatest inverse depth that each view shows.
        ways: [V, 12] from this view to each: ``K' R K⁻¹`` and ``K' t`` row by row.
        place: uint8 [V, h, w], written: KEPT, YIELDED, BARRED; 0 for a guess that stays.
        moved: [V, h, w], written: what inverse depth is multiplied by.
    """
    count, height, width = votes.shape
    for y in range(first, last):
        for x in range(width):
            w, gx, gy = planes[view, y, x, 0], planes[view, y, x, 1], planes[view, y, x, 2]
            u, v = np.float32(x) + np.float32(0.5), np.float32(y) + np.float32(0.5)
            moved[view, y, x] = 1.0
            if votes[view, y, x] == 0:
                place[view, y, x] = BARRED
                for step in range(_MOVES):
                    share = _BACK**step
                    if not _stands_before(view, planes, nearest, ways, u, v, w * share):
                        moved[view, y, x] = share
                        place[view, y, x] = 0
                        break
                continue
            found = KEPT
            for k in range(count):
                if k == view:
                    continue
                a, b, c = _seen_from(ways, k, u, v, w)
                if not (c > 0.0 and a >= 0.0 and b >= 0.0 and a < width and b < height):
                    continue
                column, row = int(a), int(b)
                if votes[k, row, column] == 0:
                    continue
                there = _there(planes, k, a, b, column, row)
                if abs(there / c - np.float32(1.0)) < _SAME:
                    ratio = _pixels_for_one(ways, k, u, v, w, gx, gy)
                    if ratio > _BETTER or (k < view and ratio * _BETTER > np.float32(1.0)):
                        found = YIELDED
                        break
            place[view, y, x] = found


@kernel
@typing.no_type_check
def restore_rows(first, last, view, planes, votes, ways, place, result) -> None:
    """``place`` with KEPT where a pixel yielded and no other view has kept its place after all."""
    count, height, width = votes.shape
    for y in range(first, last):
        for x in range(width):
            result[y, x] = place[view, y, x]
            if place[view, y, x] != YIELDED:
                continue
            w = planes[view, y, x, 0]
            u, v = np.float32(x) + np.float32(0.5), np.float32(y) + np.float32(0.5)
            kept = False
            for k in range(count):
                if k == view:
                    continue
                a, b, c = _seen_from(ways, k, u, v, w)
                if not (c > 0.0 and a >= 0.0 and b >= 0.0 and a < width and b < height):
                    continue
                column, row = int(a), int(b)
                if place[k, row, column] == KEPT:
                    there = _there(planes, k, a, b, column, row)
                    kept |= abs(there / c - np.float32(1.0)) < _SAME
            if not kept:
                result[y, x] = KEPT


@kernel
@typing.no_type_check
def refine_rows(first, last, planes, grey, fine, across, near, chosen, inverse) -> None:
    """For the pixels of some rows of a finer grid, the plane of the coarse pixel nearby that looks most like them.

    Args:
        first: of the fine rows.
        last: one past them.
        planes: [h, w, 3].
        grey: [h, w] the photo at that size, NaN where it says nothing.
        fine: [H, W] the photo.
        across: one over the difference of grey values that counts like a coarse pixel of distance.
        near: coarse pixels to each side that are looked at.
        chosen: int64 [H, W], written: the row times w plus the column of the coarse pixel.
        inverse: [H, W], written: its plane's inverse depth at the fine pixel.
    """
    height, width = grey.shape
    rows, columns = fine.shape
    half = np.float32(0.5)
    for y in range(first, last):
        v = (np.float32(y) + half) * np.float32(height) / np.float32(rows)
        for x in range(columns):
            u = (np.float32(x) + half) * np.float32(width) / np.float32(columns)
            column, row = min(int(u), width - 1), min(int(v), height - 1)
            best, low = row * width + column, np.float32(1e9)
            if not np.isnan(fine[y, x]):
                for j in range(max(0, row - near), min(height, row + near + 1)):
                    for i in range(max(0, column - near), min(width, column + near + 1)):
                        unlike = across * (grey[j, i] - fine[y, x])
                        away = (u - i - half) ** 2 + (v - j - half) ** 2 + unlike * unlike
                        if away < low:
                            low, best = away, j * width + i
            j, i = best // width, best % width
            chosen[y, x] = best
            inverse[y, x] = planes[j, i, 0] + planes[j, i, 1] * (u - i - half) + planes[j, i, 2] * (v - j - half)


@kernel
@typing.no_type_check
def color_rows(first, last, view, inverse, chosen, planes, votes, ways, photos, sizes, own, colors) -> None:
    """The mean colour in which the views show each pixel of some fine rows, where views bear it out.

    Views that see the place with fewer pixels count less.

    Args:
        first: of the fine rows.
        last: one past them.
        view: whose rows they are.
        inverse: [H, W] inverse depth.
        chosen: int64 [H, W] the coarse pixel of each fine one, by the width of the photo's part.
        planes: [V, h, w, 3].
        votes: uint8 [V, h, w].
        ways: [V, 12], of coarse pixels.
        photos: uint8 [V, H', W', 3], padded.
        sizes: int64 [V, 4] height and width of each fine photo, and of its part of the coarse grid.
        own: uint8 [H, W, 3] the view's photo.
        colors: [H, W, 3] from 0 to 1, written.
    """
    count = len(votes)
    rows, columns = inverse.shape
    half, scale = np.float32(0.5), np.float32(1.0 / 255.0)
    for y in range(first, last):
        v = (np.float32(y) + half) * np.float32(sizes[view, 2]) / np.float32(rows)
        for x in range(columns):
            u = (np.float32(x) + half) * np.float32(sizes[view, 3]) / np.float32(columns)
            red, green, blue = np.float32(own[y, x, 0]), np.float32(own[y, x, 1]), np.float32(own[y, x, 2])
            whole = np.float32(1.0)
            j, i = chosen[y, x] // sizes[view, 3], chosen[y, x] % sizes[view, 3]
            w = inverse[y, x]
            if votes[view, j, i] > 0:
                for k in range(count):
                    if k == view:
                        continue
                    a, b, c = _seen_from(ways, k, u, v, w)
                    if not (c > 0.0 and a >= 0.0 and b >= 0.0 and a < sizes[k, 3] and b < sizes[k, 2]):
                        continue
                    column, row = int(a), int(b)
                    if votes[k, row, column] == 0:
                        continue
                    if abs(_there(planes, k, a, b, column, row) / c - np.float32(1.0)) > _SAME:
                        continue
                    gx, gy = planes[view, j, i, 1], planes[view, j, i, 2]
                    weight = min(np.float32(1.0), _pixels_for_one(ways, k, u, v, w, gx, gy))
                    seen = _sampled(photos, k, sizes, a, b)
                    red, green, blue = red + weight * seen[0], green + weight * seen[1], blue + weight * seen[2]
                    whole += weight
            share = scale / whole
            colors[y, x, 0], colors[y, x, 1], colors[y, x, 2] = red * share, green * share, blue * share
