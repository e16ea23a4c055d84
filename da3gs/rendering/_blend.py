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
    at_most,
    block_columns,
    block_rows,
    both,
    but_not,
    exp2,
    load,
    multiply_add,
    prefetch,
    select,
    store,
    take_next,
)

BLOCK = 4
"""Pixels are kept in blocks of 4 x 4: T, r, g, b, z of 16 pixels each; finished ones have T < 0."""
_PLANES = 5 * BLOCK * BLOCK
_STATE = _PLANES * (TILE // BLOCK) ** 2

ALPHA_MAX = np.float32(0.999)
FINISHED = np.float32(1e-4)
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
    while True:
        piece = take_next(counter)
        if piece >= pieces:
            return
        position = places[piece]
        for i in range(piece * number // pieces, (piece + 1) * number // pieces):
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
def _sort(entries, start, end, spare, histogram) -> None:
    """Sort entries by their depth bits, equal depths in the order of the splats."""
    if end - start < 48:
        for i in range(start + 1, end):
            entry = entries[i]
            j = i
            while j > start and entries[j - 1] > entry:
                entries[j] = entries[j - 1]
                j -= 1
            entries[j] = entry
        return
    low, high = entries[start], entries[start]
    for i in range(start, end):
        low, high = min(low, entries[i]), max(high, entries[i])
    least = low >> np.uint64(32)
    spread_ = (high >> np.uint64(32)) - least
    shift = 0
    while (spread_ >> np.uint64(shift)) != 0:
        histogram[:] = 0
        for i in range(start, end):
            key = ((entries[i] >> np.uint64(32)) - least) >> np.uint64(shift)
            histogram[key & np.uint64(255)] += 1
        position = 0
        for digit in range(256):
            count = histogram[digit]
            histogram[digit] = position
            position += count
        for i in range(start, end):
            key = ((entries[i] >> np.uint64(32)) - least) >> np.uint64(shift)
            digit = key & np.uint64(255)
            spare[histogram[digit]] = entries[i]
            histogram[digit] += 1
        for i in range(start, end):
            entries[i] = spare[i - start]
        shift += 8


@inline
@typing.no_type_check
def _blend_one(record, box, left, top, state, stop, order) -> None:
    """Blend one splat into the blocks of a tile that its box touches."""
    x, y = record[0] - np.float32(left), record[1] - np.float32(top)
    l11, l21, l22 = record[2], record[3], record[4]
    across = l11 * block_columns() + l21 * block_rows()
    down = l22 * block_rows()
    for by in range(max(box[12] - top, 0) // BLOCK, min(box[13] - top, TILE - 1) // BLOCK + 1):
        dy = np.float32(by * BLOCK) + _HALF - y
        s = down + l22 * dy
        ss = s * s
        for bx in range(max(box[10] - left, 0) // BLOCK, min(box[11] - left, TILE - 1) // BLOCK + 1):
            p = across + (l11 * (np.float32(bx * BLOCK) + _HALF - x) + l21 * dy)
            power = record[5] - multiply_add(p, p, ss)
            at = (by * (TILE // BLOCK) + bx) * _PLANES
            t = load(state, at)
            hit = both(at_least(power, CUT), above(t, _ZERO))
            if any_of(hit):
                alpha = at_most(exp2(power), ALPHA_MAX)
                rest = multiply_add(_ZERO - t, alpha, t)
                going = above(rest, FINISHED)
                ends = but_not(hit, going)
                hit = both(hit, going)
                w = select(hit, t * alpha, t * _ZERO)
                left_over = select(hit, rest, t)
                if any_of(ends):
                    left_over = select(ends, _ZERO - t, left_over)
                    if stop.size:
                        mark = at // _PLANES * BLOCK * BLOCK
                        store(stop, mark, select(ends, t * _ZERO + order, load(stop, mark)))
                store(state, at, left_over)
                store(state, at + 16, multiply_add(w, record[6], load(state, at + 16)))
                store(state, at + 32, multiply_add(w, record[7], load(state, at + 32)))
                store(state, at + 48, multiply_add(w, record[8], load(state, at + 48)))
                store(state, at + 64, multiply_add(w, record[9], load(state, at + 64)))


@inline
@typing.no_type_check
def _finished(state) -> bool:
    for at in range(0, _STATE, _PLANES):  # noqa: SIM110 (numba knows no generator expressions)
        if any_of(above(load(state, at), _ZERO)):
            return False
    return True


@inline
@typing.no_type_check
def _clear(state, rows, columns) -> None:
    """Start a tile: all light gets through; pixels outside the picture are finished."""
    state[:] = 0
    for y in range(TILE):
        for x in range(TILE):
            at = (y // BLOCK * (TILE // BLOCK) + x // BLOCK) * _PLANES + y % BLOCK * BLOCK + x % BLOCK
            state[at] = _ONE if y < rows and x < columns else -_ONE


@inline
@typing.no_type_check
def _write(state, background, color, depth, alpha, top, left, rows, columns) -> None:
    for y in range(rows):
        for x in range(columns):
            at = (y // BLOCK * (TILE // BLOCK) + x // BLOCK) * _PLANES + y % BLOCK * BLOCK + x % BLOCK
            t = abs(state[at])
            covered = _ONE - t
            for c in range(3):
                color[top + y, left + x, c] = state[at + 16 * (c + 1)] + t * background[c]
            alpha[top + y, left + x] = covered
            depth[top + y, left + x] = state[at + 64] / covered if covered > _ZERO else _ZERO


@kernel
@typing.no_type_check
def blend(counter, first, last, across, starts, entries, records, boxes, background, color, depth, alpha) -> None:
    """Sort and blend the tiles ``first`` to ``last`` that this thread takes."""
    height, width = alpha.shape
    longest = 0
    for tile in range(first, last):
        longest = max(longest, starts[tile + 1] - starts[tile])
    spare = np.empty(longest, np.uint64)
    histogram = np.empty(256, np.int32)
    state = np.empty(_STATE, np.float32)
    stop = np.empty(0, np.float32)
    flat = records.reshape(-1)
    low = np.uint64(0xFFFFFFFF)
    while True:
        tile = first + take_next(counter)
        if tile >= last:
            return
        top, left = tile // across * TILE, tile % across * TILE
        rows, columns = min(TILE, height - top), min(TILE, width - left)
        start, end = starts[tile], starts[tile + 1]
        _clear(state, rows, columns)
        _sort(entries, start, end, spare, histogram)
        for i in range(start, end):
            if (i - start) % 32 == 31 and _finished(state):
                break
            prefetch(flat, np.int64(entries[min(i + 8, end - 1)] & low) * RECORD)
            splat = np.int64(entries[i] & low)
            _blend_one(records[splat], boxes[splat], left, top, state, stop, np.float32(i - start))
        _write(state, background, color, depth, alpha, top, left, rows, columns)
