"""Kernels that lay splats into a tree of nested cells, and tell what joining neighbours of it would cost.

Serial, so that the same splats give the same tree on any number of threads. One file, whose cache cannot be stale.
"""

from __future__ import annotations

import math
import typing

import numpy as np
from numba import njit

_kernel = njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
_inline = njit(nogil=True, fastmath={"contract"}, error_model="numpy")

CLASSES = 64
"""Octaves of the size of a pixel, from the smallest."""
_BITS = 19  # an axis; three of them and the class fill 63 bits
_FINEST = 0.25  # of the size of a pixel: the smallest cells
_SHADE = 0.28209479177387814**2 / 3  # harmonics squared, summed over channels, to mean squared colour
_SUMS = 9  # weight, weighted colour, its square, weighted place, its square
_MOST = np.float32(3e38)


@_inline
@typing.no_type_check
def _spread(number) -> int:
    """The bits of a number, three places apart."""
    spread = np.int64(0)
    for bit in range(_BITS):
        spread |= ((number >> bit) & 1) << (3 * bit)
    return spread


@_kernel
@typing.no_type_check
def place_keys(means, sizes, smallest, members, keys) -> None:
    """Write the key of each member: the octave of its size, then its place along a Z curve through the cells there.

    Cells of one octave nest: keys that differ in their last ``n`` bits alone lie in one cell, of twice the volume for
    every bit. Every octave has its own origin, so that far splats take no precision from near ones.

    Args:
        means: (N, 3).
        sizes: (N,), how large a pixel is there.
        smallest: of the sizes.
        members: (M,), rows of the above.
        keys: (M,) int64, written.
    """
    low, high = np.full((CLASSES, 3), np.inf), np.full((CLASSES, 3), -np.inf)
    for i in range(len(members)):
        octave = math.log2(max(sizes[members[i]] / smallest, 1.0))
        kind = np.int64(min(octave, CLASSES - 1)) if octave >= 0 else 0
        keys[i] = kind << (3 * _BITS)
        for axis in range(3):
            x = means[members[i], axis]
            if np.isfinite(x):
                low[kind, axis], high[kind, axis] = min(low[kind, axis], x), max(high[kind, axis], x)
    last = 2**_BITS - 1
    cell = np.empty(CLASSES)
    for kind in range(CLASSES):
        cell[kind] = _FINEST * smallest * 2.0**kind
        for axis in range(3):
            cell[kind] = max(cell[kind], (high[kind, axis] - low[kind, axis]) / last)
    for i in range(len(members)):
        kind = keys[i] >> (3 * _BITS)
        for axis in range(3):
            at = (means[members[i], axis] - low[kind, axis]) / cell[kind]
            keys[i] |= _spread(np.int64(min(at, last)) if at >= 0 else np.int64(0)) << axis


@_inline
@typing.no_type_check
def _disagreement(sums, blur) -> float:
    """The weighted squared distances of members from their mean, in colour and, times ``blur``, in pixels."""
    weight = max(sums[0], 1e-30)
    colors = sums[1] * sums[1] + sums[2] * sums[2] + sums[3] * sums[3]
    places = sums[5] * sums[5] + sums[6] * sums[6] + sums[7] * sums[7]
    return _SHADE * max(sums[4] - colors / weight, 0.0) + blur * max(sums[8] - places / weight, 0.0)


@_kernel
@typing.no_type_check
def joining_prices(keys, members, means, harmonics, weights, smallest, blur, prices) -> None:
    """Write for each member what it costs to join it, and all of the cell that they share, to the one before it.

    Going along the curve, two neighbours share the cell that is their common ancestor. Its price is what its members
    disagree more than those of its two halves, and never less than either half's own price: whichever bound is set,
    the cells below it are whole branches of the tree.

    Args:
        keys: (M,), ascending.
        members: (M,), rows of the splats in that order.
        means: (N, 3).
        harmonics: (N, K, 3).
        weights: (N,), how much each splat shows, in pixels.
        smallest: as in ``place_keys``.
        blur: the mean squared colour error of a pixel that is off by one pixel.
        prices: (M,) float32, written; the first one is infinite.
    """
    price, total = _SUMS, _SUMS + 1  # after the sums: the highest price within, and the disagreement
    open_, now = np.zeros((3 * _BITS + 10, _SUMS + 2)), np.zeros(_SUMS + 2)
    levels, joints = np.zeros(len(open_), np.int64), np.zeros(len(open_), np.int64)
    depth = 0
    prices[0] = np.inf
    for i in range(len(keys) + 1):
        level = np.int64(64)
        if i < len(keys):
            differing, level = keys[i] ^ keys[max(i - 1, 0)], np.int64(0)
            while differing > 0:
                differing, level = differing >> 1, level + 1
        while depth > 0 and levels[depth - 1] <= level:
            depth -= 1
            left = open_[depth]
            apart, highest = left[total] + now[total], max(left[price], now[price])
            for k in range(_SUMS):
                now[k] += left[k]
            now[total] = _disagreement(now, blur)
            cost = max(now[total] - apart, highest)
            now[price] = cost if cost < _MOST else _MOST
            prices[joints[depth]] = now[price]
        if i == len(keys):
            break
        if i > 0:
            open_[depth, :] = now
            levels[depth], joints[depth] = level, i
            depth += 1
        row, kind = members[i], keys[i] >> (3 * _BITS)
        weight, pixel = np.float64(weights[row]), smallest * 2.0**kind
        now[:] = 0.0
        now[0] = weight
        for k in range(3):
            shade, place = np.float64(harmonics[row, 0, k]), means[row, k] / pixel
            now[1 + k], now[5 + k] = weight * shade, weight * place
            now[4] += weight * shade * shade
            now[8] += weight * place * place
