"""Arithmetic on vectors of 16 floats beyond the operators: fused, rounded, compared, logarithm and exponential."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from da3gs.rendering._simd import FLOATS, LANES, as_vector, call_llvm, constant, spread_out

_FLOAT = ir.FloatType()
_FLOATS = ir.VectorType(_FLOAT, LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)
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


@intrinsic
def multiply_add(typingctx: Any, first: Any, second: Any, third: Any) -> Any:
    """``first * second + third``, rounded once."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        vectors = [as_vector(context, builder, k, v) for k, v in zip(sig.args, arguments, strict=True)]
        return call_llvm(builder, f"llvm.fma.v{LANES}f32", _FLOATS, vectors)

    return FLOATS(first, second, third), emit


def _extreme(builder: Any, predicate: str, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(predicate, x, y), x, y)


@intrinsic
def fused(typingctx: Any, first: Any, second: Any, third: Any) -> Any:
    """``first * second + third`` of three float32, rounded once."""
    kinds = (types.float32,) * 3
    return types.float32(*kinds), lambda context, builder, sig, arguments: call_llvm(
        builder, "llvm.fma.f32", _FLOAT, arguments
    )


def _one_argument(name: str) -> Any:
    """The intrinsic that applies an LLVM function to each lane."""

    @intrinsic
    def apply(typingctx: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            return call_llvm(builder, f"llvm.{name}.v{LANES}f32", _FLOATS, arguments)

        return FLOATS(FLOATS), emit

    return apply


square_root = _one_argument("sqrt")
ceiling = _one_argument("ceil")
floor = _one_argument("floor")


def _choice(predicate: str) -> Any:
    """The intrinsic that picks one of two values in each lane; the second where either is NaN."""

    @intrinsic
    def pick(typingctx: Any, first: Any, second: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            vectors = [as_vector(context, builder, k, v) for k, v in zip(sig.args, arguments, strict=True)]
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
        one = constant([1.0] * LANES)
        t = builder.fdiv(builder.fsub(mantissa, one), builder.fadd(mantissa, one))
        tt = builder.fmul(t, t)
        # log2 m = 2 / ln 2 (t + t³/3 + t⁵/5 + ...), |t| < 0.172
        result = constant([2 / (9 * _LN2)] * LANES)
        for power in (7, 5, 3, 1):
            addend = constant([2 / (power * _LN2)] * LANES)
            result = call_llvm(builder, f"llvm.fma.v{LANES}f32", _FLOATS, [result, tt, addend])
        return call_llvm(builder, f"llvm.fma.v{LANES}f32", _FLOATS, [result, t, builder.sitofp(step, _FLOATS)])

    return FLOATS(FLOATS), emit


@intrinsic
def at_most(typingctx: Any, value: Any, bound: Any) -> Any:
    """The smaller of each lane and the scalar ``bound``."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _extreme(builder, "<", arguments[0], spread_out(builder, arguments[1]))

    return FLOATS(FLOATS, types.float32), emit


@intrinsic
def exp2(typingctx: Any, exponent: Any) -> Any:
    """2 to the power of each lane, relative error 1e-7; exponents below -30 count as -30, above 126 they wrap."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        magic = constant([12582912.0] * LANES)  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits
        x = _extreme(builder, ">", arguments[0], constant([-30.0] * LANES))
        shifted = builder.fadd(x, magic)
        fraction = builder.fsub(x, builder.fsub(shifted, magic))
        result = constant([_EXP2[-1]] * LANES)
        for coefficient in _EXP2[-2::-1]:
            addend = constant([coefficient] * LANES)
            result = call_llvm(builder, f"llvm.fma.v{LANES}f32", _FLOATS, [result, fraction, addend])
        steps = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(result, _INTS), steps), _FLOATS)

    return FLOATS(FLOATS), emit
