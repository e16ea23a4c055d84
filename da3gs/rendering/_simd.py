"""Vectors of 16 floats for numba kernels, as explicit LLVM vectors.

Plain loops over 16 pixels vectorise badly under numba (gathers, masks and early exits stand in the way), so kernels say
what they mean. LLVM maps the 16 lanes to one AVX-512 register, two AVX or four NEON registers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 16
_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_FLOATS = ir.VectorType(_FLOAT, LANES)
_INTS = ir.VectorType(_INT, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_CONTRACT = ("contract",)


class _Floats(types.Type):
    """Sixteen 32-bit floats."""


class _Mask(types.Type):
    """Sixteen booleans."""


FLOATS = _Floats("floats16")
MASK = _Mask("mask16")


@register_model(_Floats)
class _FloatsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _BITS)


def constant(values: list[float]) -> ir.Constant:
    """A vector known when compiling."""
    return ir.Constant(_FLOATS, [ir.Constant(_FLOAT, v) for v in values])


def spread_out(builder: Any, value: Any) -> Any:
    """The scalar in all lanes."""
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTS, [0] * LANES))


def as_vector(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """A vector as it is, a number of any kind in all lanes."""
    if kind == FLOATS:
        return value
    return spread_out(builder, context.cast(builder, value, kind, types.float32))


def call_llvm(builder: Any, name: str, result: Any, arguments: Any) -> Any:
    """Call an intrinsic of LLVM."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [a.type for a in arguments]), name
    )
    return builder.call(function, arguments)


def _arithmetic(symbol: Callable[..., Any], emit: Callable[..., Any]) -> None:
    """Teach ``symbol`` (an operator) vectors, with a vector or a scalar on the other side."""

    class Template(AbstractTemplate):
        def generic(self, arguments: Any, keywords: Any) -> Any:
            if FLOATS in arguments and all(a == FLOATS or isinstance(a, types.Number) for a in arguments):
                return signature(FLOATS, *arguments)
            return None

    infer_global(symbol)(Template)

    def lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        values = [as_vector(context, builder, k, v) for k, v in zip(sig.args, arguments, strict=True)]
        return emit(builder, *values)

    for kinds in ((_Floats, _Floats), (_Floats, types.Number), (types.Number, _Floats)):
        lower_builtin(symbol, *kinds)(lower)


for _symbols, _name in (
    ((operator.add, operator.iadd), "fadd"),
    ((operator.sub, operator.isub), "fsub"),
    ((operator.mul, operator.imul), "fmul"),
    ((operator.truediv, operator.itruediv), "fdiv"),
):
    for _symbol in _symbols:
        _arithmetic(_symbol, lambda b, x, y, name=_name: getattr(b, name)(x, y, flags=_CONTRACT))


def address_of(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Where element ``index`` of a contiguous array stands."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Sixteen neighbours from a contiguous float32 array, starting at the flat ``index``."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = address_of(context, builder, sig.args[0], *arguments)
        return builder.load(builder.bitcast(place, _FLOATS.as_pointer()), align=4)

    return FLOATS(array, types.intp), emit


def _strided(stride: int) -> Any:
    """The intrinsic that reads one column of 16 rows of ``stride`` floats: one wide load, then shuffles."""

    @intrinsic
    def load_column(typingctx: Any, array: Any, index: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            wide = ir.VectorType(_FLOAT, (LANES - 1) * stride + 1)
            place = address_of(context, builder, sig.args[0], *arguments)
            rows = builder.load(builder.bitcast(place, wide.as_pointer()), align=4)
            chosen = ir.Constant(_INTS, [lane * stride for lane in range(LANES)])
            return builder.shuffle_vector(rows, ir.Constant(wide, ir.Undefined), chosen)

        return FLOATS(array, types.intp), emit

    return load_column


load_every_third = _strided(3)
load_every_fourth = _strided(4)


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write sixteen neighbours of a contiguous float32 array, starting at the flat ``index``."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = address_of(context, builder, sig.args[0], *arguments[:2])
        builder.store(arguments[2], builder.bitcast(place, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, FLOATS), emit


@intrinsic
def broadcast(typingctx: Any, value: Any) -> Any:
    """The same float in all lanes."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return spread_out(builder, arguments[0])

    return FLOATS(types.float32), emit


@intrinsic
def block_columns(typingctx: Any) -> Any:
    """The column of each lane in a block of 4 x 4 pixels."""
    return FLOATS(), lambda context, builder, sig, arguments: constant([float(i % 4) for i in range(LANES)])


@intrinsic
def block_rows(typingctx: Any) -> Any:
    """The row of each lane in a block of 4 x 4 pixels."""
    return FLOATS(), lambda context, builder, sig, arguments: constant([float(i // 4) for i in range(LANES)])


@intrinsic
def bits_of(typingctx: Any, mask: Any) -> Any:
    """The mask as an integer, lane 0 in the lowest bit."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.zext(builder.bitcast(arguments[0], ir.IntType(LANES)), _INT)

    return types.uint32(MASK), emit


def _comparison(predicate: str) -> Callable[..., Any]:
    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.fcmp_ordered(predicate, arguments[0], spread_out(builder, arguments[1]))

    return emit


@intrinsic
def at_least(typingctx: Any, value: Any, bound: Any) -> Any:
    """Where each lane is at least the scalar ``bound``; false for NaN."""
    return MASK(FLOATS, types.float32), _comparison(">=")


@intrinsic
def above(typingctx: Any, value: Any, bound: Any) -> Any:
    """Where each lane exceeds the scalar ``bound``; false for NaN."""
    return MASK(FLOATS, types.float32), _comparison(">")


@intrinsic
def both(typingctx: Any, first: Any, second: Any) -> Any:
    """Where both masks hold."""
    return MASK(MASK, MASK), lambda context, builder, sig, arguments: builder.and_(*arguments)


@intrinsic
def but_not(typingctx: Any, first: Any, second: Any) -> Any:
    """Where the first mask holds and the second does not."""
    return MASK(MASK, MASK), lambda context, builder, sig, arguments: builder.and_(
        arguments[0], builder.not_(arguments[1])
    )


@intrinsic
def below(typingctx: Any, value: Any, bound: Any) -> Any:
    """Where each lane is less than the scalar ``bound``; false for NaN."""
    return MASK(FLOATS, types.float32), _comparison("<")


@intrinsic
def any_of(typingctx: Any, mask: Any) -> Any:
    """Whether the mask holds in any lane."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(MASK), emit


@intrinsic
def select(typingctx: Any, mask: Any, yes: Any, no: Any) -> Any:
    """``yes`` where the mask holds, else ``no``."""
    return FLOATS(MASK, FLOATS, FLOATS), lambda context, builder, sig, arguments: builder.select(*arguments)


@intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """The sum of all lanes, added as a balanced tree: the same bytes on every machine."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        value = arguments[0]
        lanes = LANES
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            low, high = (
                ir.Constant(ir.VectorType(_INT, lanes), list(range(start, start + lanes))) for start in (0, lanes)
            )
            value = builder.fadd(
                builder.shuffle_vector(value, undefined, low), builder.shuffle_vector(value, undefined, high)
            )
        return builder.extract_element(value, ir.Constant(_INT, 0))

    return types.float32(FLOATS), emit


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of the flat ``index`` of a contiguous array."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = builder.bitcast(address_of(context, builder, sig.args[0], *arguments), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, ir.Constant(_INT, 0), ir.Constant(_INT, 3), ir.Constant(_INT, 1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def take_next(typingctx: Any, counter: Any) -> Any:
    """Add one to the first element of an int64 array and return what it was, atomically."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = address_of(context, builder, sig.args[0], arguments[0], ir.Constant(ir.IntType(64), 0))
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), emit
