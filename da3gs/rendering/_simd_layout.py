"""Sixteen lanes written as sixteen records: what is computed a row a quantity is kept a record a splat."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from da3gs.rendering._simd import FLOATS, LANES, MASK, address_of

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INT = ir.IntType(32)
_INTS = ir.VectorType(_INT, LANES)
_LOW = ir.Constant(_INTS, [lane // 2 + (lane % 2) * LANES for lane in range(LANES)])
_HIGH = ir.Constant(_INTS, [lane // 2 + LANES // 2 + (lane % 2) * LANES for lane in range(LANES)])


def _whole(number: int) -> ir.Constant:
    return ir.Constant(_INTS, [number] * LANES)


@intrinsic
def whole_bits(typingctx: Any, value: Any) -> Any:
    """The bits of each lane's integer part (a 32-bit integer) as a float; lanes must lie in the range of integers."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptosi(arguments[0], _INTS), _FLOATS)

    return FLOATS(FLOATS), emit


@intrinsic
def store_records(typingctx: Any, array: Any, index: Any, rows: Any) -> Any:
    """Write a tuple of 16 vectors transposed: lane after lane, 16 floats each, from the flat ``index`` on.

    Four rounds of interleaving each vector with the one eight places on make a transposition.
    """

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        vectors = [builder.extract_value(arguments[2], i) for i in range(LANES)]
        for _ in range(4):
            pairs = [(vectors[i], vectors[i + LANES // 2]) for i in range(LANES // 2)]
            vectors = [builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in (_LOW, _HIGH)]
        for lane, vector in enumerate(vectors):
            place = builder.add(arguments[1], ir.Constant(arguments[1].type, lane * LANES))
            there = address_of(context, builder, sig.args[0], arguments[0], place)
            builder.store(vector, builder.bitcast(there, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.containers.UniTuple(FLOATS, LANES)), emit


@intrinsic
def store_tiles(typingctx: Any, array: Any, index: Any, left: Any, right: Any, top: Any, bottom: Any, seen: Any) -> Any:
    """Write the ranges of tiles (16 pixels) that boxes of pixels touch: four 16-bit numbers a lane, zeros where unseen.

    First column, column after the last, first row, row after the last; boxes must lie in the range of integers.
    """

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pairs = []
        for first, last in (arguments[2:4], arguments[4:6]):
            low = builder.ashr(builder.fptosi(first, _INTS), _whole(4))
            high = builder.add(builder.ashr(builder.fptosi(last, _INTS), _whole(4)), _whole(1))
            both = builder.or_(low, builder.shl(high, _whole(16)))
            pairs.append(builder.select(arguments[6], both, _whole(0)))
        for half, mask in enumerate((_LOW, _HIGH)):
            place = builder.add(arguments[1], ir.Constant(arguments[1].type, half * 2 * LANES))
            there = address_of(context, builder, sig.args[0], arguments[0], place)
            joined = builder.shuffle_vector(*pairs, mask)
            builder.store(joined, builder.bitcast(there, _INTS.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(array, types.intp, FLOATS, FLOATS, FLOATS, FLOATS, MASK), emit
