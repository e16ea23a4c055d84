"""The kernels of the way back: from gradients of pictures to gradients of splats and cameras.

Tiles are walked back to front. With f the gradient of the loss by a unit of this splat's weight, S what the splats
behind and the background would add, T the light that reaches the splat: dL/dα = T f - S / (1 - α). Each (tile, splat)
pair sums ten numbers over its pixels (and one a further channel) into a slot of its own; slots of a splat lie side by
side and are summed in that order. So no byte depends on the number of threads.
"""

from __future__ import annotations

import math
import typing

import numpy as np

from da3gs.rendering._blend import (
    ALPHA_MAX,
    BLOCK,
    BLOCKS,
    PIXELS,
    block_range,
    place_of,
    whitened_columns,
    whitened_row,
)
from da3gs.rendering._jit import inline, kernel
from da3gs.rendering._project import CUT, RECORD, TILE
from da3gs.rendering._simd import (
    above,
    any_of,
    at_least,
    below,
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

SUMS = 10
"""Σ h, Σ hp, Σ hs, Σ hpp, Σ hps, Σ hss with h = dL/d(log2 α); then the gradients of red, green, blue and depth."""
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LN2 = np.float32(math.log(2))


@kernel
@typing.no_type_check
def number_slots(tiles, slots) -> int:
    """The first slot of every splat; the number of all slots."""
    position = 0
    for i in range(tiles.shape[0]):
        slots[i] = position
        if tiles[i, 1] != 0:
            position += (np.int64(tiles[i, 1]) - tiles[i, 0]) * (np.int64(tiles[i, 3]) - tiles[i, 2])
    return position


@inline
@typing.no_type_check
def _start(state, planes, mark, rests, pixel_grads, background, top, left, rows, columns) -> None:
    """Planes of each block: T, S, then the gradients by depth, red, green, blue and further channels."""
    state[:] = 0
    for block in range(BLOCKS):
        for lane in range(PIXELS):
            state[block * planes + lane] = rests[mark + block * PIXELS + lane]
    grad_color, grad_depth, grad_alpha, grad_extra, depth, alpha = pixel_grads
    for y in range(rows):
        for x in range(columns):
            block, lane = place_of(y, x)
            at = block * planes + lane
            v, u = top + y, left + x
            by_alpha = grad_alpha[v, u]
            if alpha[v, u] > _ZERO:
                by_sum = grad_depth[v, u] / alpha[v, u]
                by_alpha -= by_sum * depth[v, u]
                state[at + 32] = by_sum
            by_rest = -by_alpha
            for c in range(3):
                by_rest += grad_color[v, u, c] * background[c]
                state[at + 16 * (3 + c)] = grad_color[v, u, c]
            state[at + 16] = state[at] * by_rest
            for c in range(grad_extra.shape[2]):
                state[at + 16 * (6 + c)] = grad_extra[v, u, c]


@inline
@typing.no_type_check
def _back_one(
    splat, order, records, boxes, features, channels, left, top, state, planes, stops, mark, sums, slot, extra
) -> None:
    """Walk one splat back through the blocks of a tile and write its sums over the tile's pixels at ``slot``."""
    at = splat * RECORD
    x, y = records[at] - np.float32(left), records[at + 1] - np.float32(top)
    l11, l21, l22, opacity = records[at + 2], records[at + 3], records[at + 4], records[at + 5]
    inside = whitened_columns(l11, l21)
    bx0, bx1 = block_range(boxes[at + 10], boxes[at + 11], left)
    by0, by1 = block_range(boxes[at + 12], boxes[at + 13], top)
    zero = broadcast(_ZERO)
    h0, hp, hs, hpp, hps, hss = zero, zero, zero, zero, zero, zero
    red, green, blue, deep = zero, zero, zero, zero
    for c in range(channels):
        store(extra, 16 * c, zero)
    for by in range(by0, by1):
        dy = np.float32(by * BLOCK) + _HALF - y
        s, start = whitened_row(l11, l21, l22, dy)
        ss = s * s
        for bx in range(bx0, bx1):
            p = inside + fused(l11, np.float32(bx * BLOCK) + _HALF - x, start)
            power = opacity - multiply_add(p, p, ss)
            block = by * (TILE // BLOCK) + bx
            hit = both(at_least(power, CUT), above(load(stops, mark + block * PIXELS), order))
            if any_of(hit):
                place = block * planes
                raw = exp2(power)
                alpha = select(hit, at_most(raw, ALPHA_MAX), zero)
                through = _ONE / (_ONE - alpha)
                t = load(state, place) * through
                behind = load(state, place + 16)
                by_z, by_r = load(state, place + 32), load(state, place + 48)
                by_g, by_b = load(state, place + 64), load(state, place + 80)
                f = by_r * records[at + 6] + by_g * records[at + 7] + by_b * records[at + 8] + by_z * records[at + 9]
                w = t * alpha
                for c in range(channels):
                    by_c = load(state, place + 96 + 16 * c)
                    f = multiply_add(by_c, features[splat * channels + c], f)
                    store(extra, 16 * c, multiply_add(w, by_c, load(extra, 16 * c)))
                h = select(both(hit, below(raw, ALPHA_MAX)), (t * f - behind * through) * (alpha * _LN2), zero)
                store(state, place, t)
                store(state, place + 16, multiply_add(w, f, behind))
                red, green = multiply_add(w, by_r, red), multiply_add(w, by_g, green)
                blue, deep = multiply_add(w, by_b, blue), multiply_add(w, by_z, deep)
                h_p, h_s = h * p, h * s
                h0, hp, hs = h0 + h, hp + h_p, hs + h_s
                hpp, hps, hss = multiply_add(h_p, p, hpp), multiply_add(h_p, s, hps), multiply_add(h_s, s, hss)
    sums[slot], sums[slot + 1], sums[slot + 2] = total(h0), total(hp), total(hs)
    sums[slot + 3], sums[slot + 4], sums[slot + 5] = total(hpp), total(hps), total(hss)
    sums[slot + 6], sums[slot + 7], sums[slot + 8] = total(red), total(green), total(blue)
    sums[slot + 9] = total(deep)
    for c in range(channels):
        sums[slot + SUMS + c] = total(load(extra, 16 * c))


@kernel
@typing.no_type_check
def blend_back(
    counter, first, last, across, starts, entries, used, records, boxes, tiles, features, background, stops, rests,
    pixel_grads, slots, sums,
) -> None:  # fmt: skip
    """Fill the slots of the splats in the tiles ``first`` to ``last`` that this thread takes."""
    height, width = pixel_grads[1].shape
    channels = pixel_grads[3].shape[2]
    planes = (6 + channels) * PIXELS
    width_of_slot = SUMS + channels
    state = np.empty(BLOCKS * planes, np.float32)
    extra = np.empty(16 * channels, np.float32)
    low = np.uint64(0xFFFFFFFF)
    while True:
        tile = first + take_next(counter)
        if tile >= last:
            return
        row, column = tile // across, tile % across
        top, left = row * TILE, column * TILE
        mark = tile * TILE * TILE
        start = starts[tile]
        _start(
            state, planes, mark, rests, pixel_grads, background, top, left, min(TILE, height - top),
            min(TILE, width - left),
        )  # fmt: skip
        for i in range(starts[tile + 1] - 1, start - 1, -1):
            splat = np.int64(entries[i] & low)
            inside = (row - tiles[splat, 2]) * (np.int64(tiles[splat, 1]) - tiles[splat, 0]) + column - tiles[splat, 0]
            slot = (slots[splat] + inside) * width_of_slot
            if i - start >= used[tile]:
                for k in range(width_of_slot):
                    sums[slot + k] = _ZERO
                continue
            prefetch(records, np.int64(entries[max(i - 8, start)] & low) * RECORD)
            _back_one(
                splat, np.float32(i - start), records, boxes, features, channels, left, top, state, planes, stops, mark,
                sums, slot, extra,
            )  # fmt: skip
