"""The kernels that add up how much each splat shows in a picture."""

from __future__ import annotations

import typing

import numpy as np

from da3gs.rendering._blend import (
    ALPHA_MAX,
    BLOCK,
    BLOCKS,
    FINISHED,
    MOST_RANGES,
    PIXELS,
    block_range,
    finished,
    partition,
    place_of,
    sort_next,
    whitened_columns,
    whitened_row,
)
from da3gs.rendering._jit import inline, kernel
from da3gs.rendering._project import CUT, RECORD, TILE
from da3gs.rendering._simd import (
    above,
    any_of,
    at_least,
    both,
    broadcast,
    load,
    prefetch,
    select,
    store,
    take_next,
    total,
)
from da3gs.rendering._simd_math import at_most, exp2, fused, multiply_add

_PLANES = 2 * PIXELS
"""Of a block: how much light is left (finished: at most 0), and what a pixel counts."""
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


@inline
@typing.no_type_check
def _clear(state, counts, top, left, rows, columns) -> None:
    state[:] = 0
    for y in range(rows):
        for x in range(columns):
            block, lane = place_of(y, x)
            state[block * _PLANES + lane] = _ONE
            state[block * _PLANES + PIXELS + lane] = counts[top + y, left + x]


@inline
@typing.no_type_check
def _weigh_one(splat, records, boxes, left, top, state) -> float:
    """Blend one splat into the blocks of a tile that its box touches; the sum of its weights there."""
    at = splat * RECORD
    x, y = records[at] - np.float32(left), records[at + 1] - np.float32(top)
    l11, l21, l22, opacity = records[at + 2], records[at + 3], records[at + 4], records[at + 5]
    inside = whitened_columns(l11, l21)
    bx0, bx1 = block_range(boxes[at + 10], boxes[at + 11], left)
    by0, by1 = block_range(boxes[at + 12], boxes[at + 13], top)
    weights = broadcast(_ZERO)
    for by in range(by0, by1):
        dy = np.float32(by * BLOCK) + _HALF - y
        s, start = whitened_row(l11, l21, l22, dy)
        ss = s * s
        for bx in range(bx0, bx1):
            p = inside + fused(l11, np.float32(bx * BLOCK) + _HALF - x, start)
            power = opacity - multiply_add(p, p, ss)
            here = (by * (TILE // BLOCK) + bx) * _PLANES
            t = load(state, here)
            hit = both(at_least(power, CUT), above(t, _ZERO))
            if any_of(hit):
                alpha = at_most(exp2(power), ALPHA_MAX)
                rest = multiply_add(_ZERO - t, alpha, t)
                going = above(rest, FINISHED)
                store(state, here, select(hit, select(going, rest, broadcast(_ZERO)), t))
                w = select(both(hit, going), t * alpha, broadcast(_ZERO))
                weights = multiply_add(w, load(state, here + PIXELS), weights)
    return total(weights)


@kernel
@typing.no_type_check
def weigh(counter, first, last, across, starts, entries, records, boxes, counts) -> None:
    """Replace the lists of the tiles ``first`` to ``last`` by (bits of the sum of weights there, splat), front to back.

    Args:
        counts: (H, W), what a pixel counts.
    """
    height, width = counts.shape
    longest = 0
    for tile in range(first, last):
        longest = max(longest, starts[tile + 1] - starts[tile])
    ordered, spare = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    ends, histogram = np.empty(MOST_RANGES, np.int32), np.empty(256, np.int64)
    state = np.empty(BLOCKS * _PLANES, np.float32)
    weight = np.empty(1, np.float32)
    bits = weight.view(np.uint32)
    low = np.uint64(0xFFFFFFFF)
    while True:
        tile = first + take_next(counter)
        if tile >= last:
            return
        start, number = starts[tile], starts[tile + 1] - starts[tile]
        if number == 0:
            continue
        top, left = tile // across * TILE, tile % across * TILE
        _clear(state, counts, top, left, min(TILE, height - top), min(TILE, width - left))
        least, shift = partition(entries, start, start + number, ordered, ends)
        seen = 0
        while seen < number and not finished(state, _PLANES):
            end = sort_next(ordered, seen, number, least, shift, spare, histogram)
            for i in range(seen, end):
                prefetch(records, np.int64(ordered[min(i + 8, number - 1)] & low) * RECORD)
                splat = ordered[i] & low
                weight[0] = _weigh_one(np.int64(splat), records, boxes, left, top, state)
                entries[start + i] = (np.uint64(bits[0]) << np.uint64(32)) | splat
            seen = end
        for i in range(seen, number):
            entries[start + i] = ordered[i] & low


@kernel
@typing.no_type_check
def collect(entries, end, sums) -> None:
    """Add the weights in the lists up to ``end`` to the splats' ``sums``, in the order of the tiles."""
    weight = np.empty(1, np.float32)
    bits = weight.view(np.uint32)
    for i in range(end):
        bits[0] = np.uint32(entries[i] >> np.uint64(32))
        sums[np.int64(entries[i] & np.uint64(0xFFFFFFFF))] += weight[0]
