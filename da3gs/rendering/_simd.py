"""Vectors of 16 floats for numba kernels, as explicit LLVM vectors.

Plain loops over 16 pixels vectorise badly under numba (gathers, masks and early exits stand in the way), so kernels say
what they mean. LLVM maps the 16 lanes to one AVX-512 register, two AVX or four NEON registers.
"""

from __future__ import annotations

import math
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
_LN2 = math.log(2)

# 2^f on [-1/2, 1/2], relative error 2e-9 (Lawson iteration on Chebyshev nodes)
_EXP2 = (
    1.000000000554169,
    0.6931472057372664,
    0.24022646890630578,
    0.05550328776966729,
    0.009618488957482407,
    0.0013399931218765967,
    0.00015345811906928436,
)


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


def _constant(values: list[float]) -> ir.Constant:
    return ir.Constant(_FLOATS, [ir.Constant(_FLOAT, v) for v in values])


def _broadcast(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTS, [0] * LANES))


def _as_vector(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if kind == FLOATS:
        return value
    return _broadcast(builder, context.cast(builder, value, kind, types.float32))


def _call(builder: Any, name: str, result: Any, arguments: Any) -> Any:
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
        values = [_as_vector(context, builder, k, v) for k, v in zip(sig.args, arguments, strict=True)]
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


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Sixteen neighbours from a contiguous float32 array, starting at the flat ``index``."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = _address(context, builder, sig.args[0], *arguments)
        return builder.load(builder.bitcast(place, _FLOATS.as_pointer()), align=4)

    return FLOATS(array, types.intp), emit


def _strided(stride: int) -> Any:
    """The intrinsic that reads one column of 16 rows of ``stride`` floats: one wide load, then shuffles."""

    @intrinsic
    def load_column(typingctx: Any, array: Any, index: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            wide = ir.VectorType(_FLOAT, (LANES - 1) * stride + 1)
            place = _address(context, builder, sig.args[0], *arguments)
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
        place = _address(context, builder, sig.args[0], *arguments[:2])
        builder.store(arguments[2], builder.bitcast(place, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, FLOATS), emit


@intrinsic
def broadcast(typingctx: Any, value: Any) -> Any:
    """The same float in all lanes."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _broadcast(builder, arguments[0])

    return FLOATS(types.float32), emit


@intrinsic
def block_columns(typingctx: Any) -> Any:
    """The column of each lane in a block of 4 x 4 pixels."""
    return FLOATS(), lambda context, builder, sig, arguments: _constant([float(i % 4) for i in range(LANES)])


@intrinsic
def block_rows(typingctx: Any) -> Any:
    """The row of each lane in a block of 4 x 4 pixels."""
    return FLOATS(), lambda context, builder, sig, arguments: _constant([float(i // 4) for i in range(LANES)])


@intrinsic
def multiply_add(typingctx: Any, first: Any, second: Any, third: Any) -> Any:
    """``first * second + third``, rounded once."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        vectors = [_as_vector(context, builder, k, v) for k, v in zip(sig.args, arguments, strict=True)]
        return _call(builder, f"llvm.fma.v{LANES}f32", _FLOATS, vectors)

    return FLOATS(first, second, third), emit


def _extreme(builder: Any, predicate: str, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(predicate, x, y), x, y)


@intrinsic
def fused(typingctx: Any, first: Any, second: Any, third: Any) -> Any:
    """``first * second + third`` of three float32, rounded once."""
    kinds = (types.float32,) * 3
    return types.float32(*kinds), lambda context, builder, sig, arguments: _call(
        builder, "llvm.fma.f32", _FLOAT, arguments
    )


def _one_argument(name: str) -> Any:
    """The intrinsic that applies an LLVM function to each lane."""

    @intrinsic
    def apply(typingctx: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            return _call(builder, f"llvm.{name}.v{LANES}f32", _FLOATS, arguments)

        return FLOATS(FLOATS), emit

    return apply


square_root = _one_argument("sqrt")
ceiling = _one_argument("ceil")
floor = _one_argument("floor")
absolute = _one_argument("fabs")


def _choice(predicate: str) -> Any:
    """The intrinsic that picks one of two values in each lane; the second where either is NaN."""

    @intrinsic
    def pick(typingctx: Any, first: Any, second: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            vectors = [_as_vector(context, builder, k, v) for k, v in zip(sig.args, arguments, strict=True)]
            return _extreme(builder, predicate, *vectors)

        return FLOATS(first, second), emit

    return pick


smaller = _choice("<")
larger = _choice(">")


@intrinsic
def log2(typingctx: Any, value: Any) -> Any:
    """The logarithm to base 2 of each lane, absolute error 1e-7; for positive normal numbers only."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        def whole(number: int) -> Any:
            return ir.Constant(_INTS, [number] * LANES)

        bits = builder.bitcast(arguments[0], _INTS)
        # the exponent that leaves a mantissa m in [0.707, 1.414): bits relative to those of sqrt(1/2)
        step = builder.ashr(builder.sub(bits, whole(0x3F3504F3)), whole(23))
        mantissa = builder.bitcast(builder.sub(bits, builder.shl(step, whole(23))), _FLOATS)
        one = _constant([1.0] * LANES)
        t = builder.fdiv(builder.fsub(mantissa, one), builder.fadd(mantissa, one))
        tt = builder.fmul(t, t)
        # log2 m = 2 / ln 2 (t + t³/3 + t⁵/5 + ...), |t| < 0.172
        result = _constant([2 / (9 * _LN2)] * LANES)
        for power in (7, 5, 3, 1):
            addend = _constant([2 / (power * _LN2)] * LANES)
            result = _call(builder, f"llvm.fma.v{LANES}f32", _FLOATS, [result, tt, addend])
        return _call(builder, f"llvm.fma.v{LANES}f32", _FLOATS, [result, t, builder.sitofp(step, _FLOATS)])

    return FLOATS(FLOATS), emit


@intrinsic
def bits_of(typingctx: Any, mask: Any) -> Any:
    """The mask as an integer, lane 0 in the lowest bit."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.zext(builder.bitcast(arguments[0], ir.IntType(LANES)), _INT)

    return types.uint32(MASK), emit


@intrinsic
def at_most(typingctx: Any, value: Any, bound: Any) -> Any:
    """The smaller of each lane and the scalar ``bound``."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _extreme(builder, "<", arguments[0], _broadcast(builder, arguments[1]))

    return FLOATS(FLOATS, types.float32), emit


@intrinsic
def exp2(typingctx: Any, exponent: Any) -> Any:
    """2 to the power of each lane, relative error 1e-7; exponents below -30 count as -30, above 126 they wrap."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        magic = _constant([12582912.0] * LANES)  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits
        x = _extreme(builder, ">", arguments[0], _constant([-30.0] * LANES))
        shifted = builder.fadd(x, magic)
        fraction = builder.fsub(x, builder.fsub(shifted, magic))
        result = _constant([_EXP2[-1]] * LANES)
        for coefficient in _EXP2[-2::-1]:
            addend = _constant([coefficient] * LANES)
            result = _call(builder, f"llvm.fma.v{LANES}f32", _FLOATS, [result, fraction, addend])
        steps = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(result, _INTS), steps), _FLOATS)

    return FLOATS(FLOATS), emit


def _comparison(predicate: str) -> Callable[..., Any]:
    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.fcmp_ordered(predicate, arguments[0], _broadcast(builder, arguments[1]))

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
        place = builder.bitcast(_address(context, builder, sig.args[0], *arguments), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, ir.Constant(_INT, 0), ir.Constant(_INT, 3), ir.Constant(_INT, 1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def take_next(typingctx: Any, counter: Any) -> Any:
    """Add one to the first element of an int64 array and return what it was, atomically."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = _address(context, builder, sig.args[0], arguments[0], ir.Constant(ir.IntType(64), 0))
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), emit
