"""The kernels that list, sort and blend projected splats tile by tile.

Every piece of work writes to its own place, so that the number of threads changes no byte.
"""

from __future__ import annotations

import typing

import numpy as np

from da3gs.rendering._jit import inline, kernel
from da3gs.rendering._project import CUT, RECORD, TILE
from da3gs.rendering._simd import (
    above,
    any_of,
    at_least,
    block_columns,
    block_rows,
    both,
    broadcast,
    but_not,
    load,
    prefetch,
    select,
    store,
    take_next,
)
from da3gs.rendering._simd_math import at_most, exp2, fused, multiply_add

BLOCK = 4
"""Pixels are kept in blocks of 4 x 4, as planes of 16 floats: T, z, r, g, b and further channels; finished: T < 0."""
PIXELS = BLOCK * BLOCK
BLOCKS = (TILE // BLOCK) ** 2
NEVER = np.float32(1e9)
"""The place in the list where a pixel stopped that never did; those outside the picture have -1."""
ALPHA_MAX = np.float32(0.999)
FINISHED = np.float32(1e-4)
_FEW = 32
MOST_RANGES = 4096
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


@kernel
@typing.no_type_check
def place(counts, starts, first, last) -> int:
    """Turn the counts of tiles ``first`` to ``last`` into the places where each piece starts writing; the total."""
    position = 0
    for tile in range(first, last):
        starts[tile] = position
        for piece in range(counts.shape[0]):
            count = counts[piece, tile]
            counts[piece, tile] = position
            position += count
    starts[last] = position
    return position


@kernel
@typing.no_type_check
def fill(counter, records_bits, tiles, places, across, first_row, last_row, entries) -> None:
    """Write (depth bits, splat) into the list of each tile that a splat touches, in the order of the splats."""
    pieces = places.shape[0]
    number = tiles.shape[0]
    groups = (number + 15) // 16
    while True:
        piece = take_next(counter)
        if piece >= pieces:
            return
        position = places[piece]
        for i in range(16 * (piece * groups // pieces), min(16 * ((piece + 1) * groups // pieces), number)):
            tile = tiles[i]
            if tile[1] == 0:
                continue
            entry = (np.uint64(records_bits[i, 9]) << np.uint64(32)) | np.uint64(i)
            for row in range(max(tile[2], first_row), min(tile[3], last_row)):
                for column in range(tile[0], tile[1]):
                    t = row * across + column
                    entries[position[t]] = entry
                    position[t] += 1


@inline
@typing.no_type_check
def partition(entries, start, end, ordered, ends) -> tuple:
    """Distribute entries over ranges of depth, about two an entry, in order: the least depth, and the bits of a range.

    Entries of one range keep their order. Depths are bits of positive floats, which order as the floats do.
    """
    low, high = entries[start], entries[start]
    for i in range(start, end):
        low, high = min(low, entries[i]), max(high, entries[i])
    least, span = low >> np.uint64(32), (high >> np.uint64(32)) - (low >> np.uint64(32))
    ranges = np.uint64(64)
    while ranges < MOST_RANGES and ranges < np.uint64(2 * (end - start)):
        ranges *= np.uint64(2)
    shift = np.uint64(0)
    while (span >> shift) >= ranges:
        shift += np.uint64(1)
    ends[:ranges] = 0
    for i in range(start, end):
        ends[((entries[i] >> np.uint64(32)) - least) >> shift] += 1
    position = 0
    for digit in range(ranges):
        position, ends[digit] = position + ends[digit], position
    for i in range(start, end):
        digit = ((entries[i] >> np.uint64(32)) - least) >> shift
        ordered[ends[digit]] = entries[i]
        ends[digit] += 1
    return least, shift


@inline
@typing.no_type_check
def _sort_few(entries, start, end) -> None:
    """Insertion sort: few entries, or nearly sorted ones."""
    for i in range(start + 1, end):
        entry = entries[i]
        j = i
        while j > start and entries[j - 1] > entry:
            entries[j] = entries[j - 1]
            j -= 1
        entries[j] = entry


@inline
@typing.no_type_check
def _sort_range(entries, start, end, spare, histogram) -> None:
    """Sort many entries, equal depths in the order of the splats."""
    low, high = entries[start], entries[start]
    for i in range(start, end):
        low, high = low & entries[i], high | entries[i]
    for shift in range(32, 64, 8):
        if ((low ^ high) >> np.uint64(shift)) & np.uint64(255) == 0:  # all alike here
            continue
        histogram[:] = 0
        for i in range(start, end):
            histogram[(entries[i] >> np.uint64(shift)) & np.uint64(255)] += 1
        position = start
        for digit in range(256):
            position, histogram[digit] = position + histogram[digit], position
        for i in range(start, end):
            digit = (entries[i] >> np.uint64(shift)) & np.uint64(255)
            spare[histogram[digit]] = entries[i]
            histogram[digit] += 1
        for i in range(start, end):
            entries[i] = spare[i]


@inline
@typing.no_type_check
def sort_next(ordered, start, number, least, shift, spare, histogram) -> int:
    """Put the next entries from ``start`` on in order, up to the end of a range of depth; where they end.

    What lies behind is sorted only if somebody looks at it.
    """
    end = min(start + _FEW, number)
    digit = ((ordered[end - 1] >> np.uint64(32)) - least) >> shift
    while end < number and ((ordered[end] >> np.uint64(32)) - least) >> shift == digit:
        end += 1
    if end - start <= 2 * _FEW:
        _sort_few(ordered, start, end)
    else:
        _sort_range(ordered, start, end, spare, histogram)
    return end


@inline
@typing.no_type_check
def block_range(low, high, origin) -> tuple:
    """The first block and the one after the last that pixels ``low`` to ``high`` touch in the tile at ``origin``."""
    return max(low - origin, 0) // BLOCK, min(high - origin, TILE - 1) // BLOCK + 1


@inline
@typing.no_type_check
def whitened_row(l11, l21, l22, dy) -> tuple:
    """``s`` of a row of blocks, and what every ``p`` in it starts with; exact operations, alike in both directions."""
    return multiply_add(block_rows(), l22, l22 * dy), l21 * dy


@inline
@typing.no_type_check
def whitened_columns(l11, l21) -> object:
    """What ``p`` differs by inside a block."""
    return multiply_add(block_rows(), l21, l11 * block_columns())


@inline
@typing.no_type_check
def _blend_one(splat, records, boxes, features, channels, left, top, state, planes, stops, mark, order) -> None:
    """Blend one splat into the blocks of a tile that its box touches."""
    at = splat * RECORD
    x, y = records[at] - np.float32(left), records[at + 1] - np.float32(top)
    l11, l21, l22, opacity = records[at + 2], records[at + 3], records[at + 4], records[at + 5]
    inside = whitened_columns(l11, l21)
    bx0, bx1 = block_range(boxes[at + 10], boxes[at + 11], left)
    by0, by1 = block_range(boxes[at + 12], boxes[at + 13], top)
    for by in range(by0, by1):
        dy = np.float32(by * BLOCK) + _HALF - y
        s, start = whitened_row(l11, l21, l22, dy)
        ss = s * s
        for bx in range(bx0, bx1):
            p = inside + fused(l11, np.float32(bx * BLOCK) + _HALF - x, start)
            power = opacity - multiply_add(p, p, ss)
            block = by * (TILE // BLOCK) + bx
            place = block * planes
            t = load(state, place)
            hit = both(at_least(power, CUT), above(t, _ZERO))
            alpha = at_most(exp2(power), ALPHA_MAX)
            rest = multiply_add(_ZERO - t, alpha, t)
            going = above(rest, FINISHED)
            ends = but_not(hit, going)
            hit = both(hit, going)
            w = select(hit, t * alpha, broadcast(_ZERO))
            rest = select(hit, rest, t)
            if any_of(ends):
                rest = select(ends, _ZERO - t, rest)
                if stops.size:
                    here = mark + block * PIXELS
                    store(stops, here, select(ends, broadcast(order), load(stops, here)))
            store(state, place, rest)
            store(state, place + 16, multiply_add(w, records[at + 9], load(state, place + 16)))
            store(state, place + 32, multiply_add(w, records[at + 6], load(state, place + 32)))
            store(state, place + 48, multiply_add(w, records[at + 7], load(state, place + 48)))
            store(state, place + 64, multiply_add(w, records[at + 8], load(state, place + 64)))
            for channel in range(channels):
                there = place + 80 + 16 * channel
                store(state, there, multiply_add(w, features[splat * channels + channel], load(state, there)))


@inline
@typing.no_type_check
def finished(state, planes) -> bool:
    """Whether no light gets through any pixel of a tile."""
    for block in range(BLOCKS):  # noqa: SIM110 (numba knows no generator expressions)
        if any_of(above(load(state, block * planes), _ZERO)):
            return False
    return True


@inline
@typing.no_type_check
def place_of(y, x) -> tuple:
    """Block and lane of a pixel of a tile."""
    return y // BLOCK * (TILE // BLOCK) + x // BLOCK, y % BLOCK * BLOCK + x % BLOCK


@inline
@typing.no_type_check
def _clear(state, planes, rows, columns) -> None:
    """Start a tile: all light gets through; pixels outside the picture are finished."""
    state[:] = 0
    for y in range(TILE):
        for x in range(TILE):
            block, lane = place_of(y, x)
            state[block * planes + lane] = _ONE if y < rows and x < columns else -_ONE


@inline
@typing.no_type_check
def _start_stops(state, planes, stops, mark) -> None:
    for block in range(BLOCKS):
        for lane in range(PIXELS):
            inside = state[block * planes + lane] > _ZERO
            stops[mark + block * PIXELS + lane] = NEVER if inside else -_ONE


@inline
@typing.no_type_check
def _write(state, planes, channels, background, color, depth, alpha, extra, top, left, rows, columns) -> None:
    for y in range(rows):
        for x in range(columns):
            block, lane = place_of(y, x)
            at = block * planes + lane
            t = abs(state[at])
            covered = _ONE - t
            for c in range(3):
                color[top + y, left + x, c] = state[at + 16 * (c + 2)] + t * background[c]
            alpha[top + y, left + x] = covered
            depth[top + y, left + x] = state[at + 16] / covered if covered > _ZERO else _ZERO
            for c in range(channels):
                extra[top + y, left + x, c] = state[at + 16 * (c + 5)]


@kernel
@typing.no_type_check
def blend(
    counter, first, last, across, starts, entries, records, boxes, features, background,
    color, depth, alpha, extra, stops, rests, used,
) -> None:  # fmt: skip
    """Sort and blend the tiles ``first`` to ``last`` that this thread takes.

    For the way back, where the arrays are not empty: ``stops`` gets the place in the tile's list where each pixel was
    finished, ``rests`` its transmittance (both in the order of blocks), ``used`` how much of each list was looked at.
    """
    height, width = alpha.shape
    channels = extra.shape[2]
    planes = (5 + channels) * PIXELS
    longest = 0
    for tile in range(first, last):
        longest = max(longest, starts[tile + 1] - starts[tile])
    ordered, spare = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    ends, histogram = np.empty(MOST_RANGES, np.int32), np.empty(256, np.int64)
    state = np.empty(BLOCKS * planes, np.float32)
    low = np.uint64(0xFFFFFFFF)
    while True:
        tile = first + take_next(counter)
        if tile >= last:
            return
        top, left = tile // across * TILE, tile % across * TILE
        rows, columns = min(TILE, height - top), min(TILE, width - left)
        start, number = starts[tile], starts[tile + 1] - starts[tile]
        mark = tile * TILE * TILE
        _clear(state, planes, rows, columns)
        if stops.size:
            _start_stops(state, planes, stops, mark)
        least, shift = np.uint64(0), np.uint64(0)
        if number:
            least, shift = partition(entries, start, start + number, ordered, ends)
        seen = 0
        while seen < number and not finished(state, planes):
            end = sort_next(ordered, seen, number, least, shift, spare, histogram)
            for i in range(seen, end):
                prefetch(records, np.int64(ordered[min(i + 8, number - 1)] & low) * RECORD)
                _blend_one(
                    np.int64(ordered[i] & low), records, boxes, features, channels, left, top, state, planes, stops,
                    mark, np.float32(i),
                )  # fmt: skip
                if i % 32 == 31 and finished(state, planes):
                    end = i + 1
                    break
            seen = end
        _write(state, planes, channels, background, color, depth, alpha, extra, top, left, rows, columns)
        if stops.size:
            used[tile] = seen
            for i in range(number):
                entries[start + i] = ordered[i]
            for block in range(BLOCKS):
                for lane in range(PIXELS):
                    rests[mark + block * PIXELS + lane] = abs(state[block * planes + lane])
