"""Samples of pictures in vector lanes, and random numbers that follow from a pixel's place, for PatchMatch kernels."""

from __future__ import annotations

import typing

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from da3gs.rendering._simd import FLOATS, LANES, MASK

inline = numba.njit(nogil=True, fastmath={"contract", "reassoc"}, error_model="numpy", forceinline=True)


@inline
@typing.no_type_check
def random_step(state) -> tuple:
    """The next state and a number in [-1, 1), by xorshift and a multiplication (Vigna 2016)."""
    state ^= state >> np.uint64(12)
    state ^= state << np.uint64(25)
    state ^= state >> np.uint64(27)
    bits = (state * np.uint64(2685821657736338717)) >> np.uint64(40)
    return state, np.float32(bits) * np.float32(2.0**-23) - np.float32(1.0)


@inline
@typing.no_type_check
def seeded(seed, x, y) -> np.uint64:
    """A state that follows from the place alone."""
    state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(y) * np.uint64(0xC2B2AE3D27D4EB4F)
    state += np.uint64(x) * np.uint64(0x165667B19E3779F9) + np.uint64(1)
    state ^= state >> np.uint64(31)
    state *= np.uint64(0x7FB5D329728EA185)
    state ^= state >> np.uint64(27)
    return state | np.uint64(1)


_INT = ir.IntType(32)
_INTS = ir.VectorType(_INT, LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


@intrinsic
def sampled(typingctx: typing.Any, words: typing.Any, picture: typing.Any, x: typing.Any, y: typing.Any) -> typing.Any:
    """Grey values, 1 to 255, at 16 places of a picture of ``packed`` words, and where it has any."""

    def emit(context: typing.Any, builder: typing.Any, sig: typing.Any, arguments: typing.Any) -> typing.Any:
        array = context.make_array(sig.args[0])(context, builder, arguments[0])
        picture, x, y = arguments[1:]
        _, high, wide = numba.core.cgutils.unpack_tuple(builder, array.shape)
        start = builder.mul(picture, builder.mul(high, wide))
        rows, columns = builder.trunc(high, _INT), builder.trunc(wide, _INT)

        def many(value: typing.Any) -> typing.Any:
            undefined = ir.Constant(_INTS, ir.Undefined)
            first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
            return builder.shuffle_vector(first, undefined, ir.Constant(_INTS, [0] * LANES))

        zero, one = ir.Constant(_FLOATS, [0.0] * LANES), ir.Constant(_INT, 1)
        inside = builder.and_(builder.fcmp_ordered(">=", x, zero), builder.fcmp_ordered(">=", y, zero))
        for value, size in ((x, columns), (y, rows)):
            bound = builder.sitofp(many(builder.sub(size, one)), _FLOATS)
            inside = builder.and_(inside, builder.fcmp_ordered("<", value, bound))
        x, y = builder.select(inside, x, zero), builder.select(inside, y, zero)
        column, row = builder.fptosi(x, _INTS), builder.fptosi(y, _INTS)
        s, t = builder.fsub(x, builder.sitofp(column, _FLOATS)), builder.fsub(y, builder.sitofp(row, _FLOATS))
        place = builder.add(builder.mul(row, many(columns)), column)
        found = ir.Constant(_INTS, ir.Undefined)
        for lane in range(LANES):
            index = builder.zext(builder.extract_element(place, ir.Constant(_INT, lane)), ir.IntType(64))
            index = builder.add(start, index)
            found = builder.insert_element(
                found, builder.load(builder.gep(array.data, [index])), ir.Constant(_INT, lane)
            )
        corners = []
        for shift in (0, 8, 16, 24):
            moved = builder.lshr(found, ir.Constant(_INTS, [shift] * LANES))
            corners.append(builder.sitofp(builder.and_(moved, ir.Constant(_INTS, [255] * LANES)), _FLOATS))

        def between(one: typing.Any, other: typing.Any, share: typing.Any) -> typing.Any:
            step = builder.fmul(builder.fsub(other, one, flags=("contract",)), share, flags=("contract",))
            return builder.fadd(one, step, flags=("contract",))

        seen = between(between(corners[0], corners[1], s), between(corners[2], corners[3], s), t)
        inside = builder.and_(inside, builder.icmp_unsigned("!=", found, ir.Constant(_INTS, [0] * LANES)))
        return context.make_tuple(builder, sig.return_type, (seen, inside))

    return types.containers.Tuple((FLOATS, MASK))(words, types.intp, FLOATS, FLOATS), emit
