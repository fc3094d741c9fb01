"""What each operator, cast and primitive function computes, on Python numbers.

This is the meaning that every back end must reproduce. Integers wrap. A float operation gives the exact
result rounded once: f32, f16 and bf16 are computed in f64 and rounded, which is the same for
`+ - * /` and `sqrt` (53 bits are more than twice their 24 and two more). The rest says what it does.
An integer division by zero is Python's `ZeroDivisionError`, `ipow` to a negative power its `ValueError`.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

from kdsl.dtypes import DType, f32
from kdsl.ir.numbers import float_to_int, int_to_float, rounder, wrap

Op1 = Callable[[Any], Any]
Op2 = Callable[[Any, Any], Any]

COMPARE: dict[str, Op2] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@cache
def unary(op: str, t: DType) -> Op1:
    """`op x` for `x` of type `t`."""
    match op:
        case "not":
            return operator.not_
        case "-" if t.is_float:
            return operator.neg
        case "-":
            return lambda x: wrap(-x, t)
        case "~":
            return lambda x: wrap(~x, t)
        case _:
            raise AssertionError(f"unknown operator {op!r}")


@cache
def binary(op: str, t: DType) -> Op2:
    """`a op b` for operands of type `t`."""
    if op == "min":
        return python_min
    if op == "max":
        return python_max
    if t.is_float:
        return _float_binary(op, t)
    if t.kind == "bool":
        return {
            "&": operator.and_,
            "*": operator.and_,
            "|": operator.or_,
            "+": operator.or_,
            "^": operator.xor,
        }[op]
    return _int_binary(op, t)


def python_min(a: Any, b: Any) -> Any:
    """As the built-in `min(a, b)`."""
    return b if b < a else a


def python_max(a: Any, b: Any) -> Any:
    """As the built-in `max(a, b)`."""
    return b if b > a else a


# -------------------------------------------------------------------- integers


def _int_binary(op: str, t: DType) -> Op2:
    low, high = t.min, t.max
    match op:
        case "&":
            return operator.and_
        case "|":
            return operator.or_
        case "^":
            return operator.xor
        case "%":
            return operator.mod
        case "//":
            return lambda a, b: wrap(a // b, t)
        case "<<":
            return lambda a, b: wrap(a << b, t) if 0 <= b < t.bits else a & 0
        case ">>":
            return lambda a, b: a >> b if 0 <= b < t.bits else -(a < 0)
        case "+":
            return lambda a, b: v if low <= (v := a + b) <= high else wrap(v, t)
        case "-":
            return lambda a, b: v if low <= (v := a - b) <= high else wrap(v, t)
        case "*":
            return lambda a, b: v if low <= (v := a * b) <= high else wrap(v, t)
        case _:
            raise AssertionError(f"unknown operator {op!r} for {t}")


def _ipow(t: DType) -> Op2:
    def ipow(a: int, b: int) -> int:
        if b < 0:
            raise ValueError(b)
        return wrap(pow(a, b, 1 << t.bits), t)

    return ipow


# ---------------------------------------------------------------------- floats


def _float_binary(op: str, t: DType) -> Op2:
    rounded = rounder(t)
    exact: Op2
    match op:
        case "+" | "-" | "*" if t.bits == 64:
            return {"+": operator.add, "-": operator.sub, "*": operator.mul}[op]
        case "+":  # written out: a call less
            return lambda a, b: rounded(a + b)
        case "-":
            return lambda a, b: rounded(a - b)
        case "*":
            return lambda a, b: rounded(a * b)
        case "/":
            exact = divide
        case "//":
            exact = _floor_divide(t)
        case "%":
            exact = _remainder(t)
        case _:
            raise AssertionError(f"unknown operator {op!r} for {t}")
    return lambda a, b: rounded(exact(a, b))


def divide(a: float, b: float) -> float:
    """IEEE division of f64: by zero too."""
    if b:
        return a / b
    if a == 0.0 or a != a or b != b:
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def fmod(a: float, b: float) -> float:
    """C's `fmod`: exact, with the sign of `a`; NaN for an infinite `a` or a zero `b`."""
    if a != a or b != b or a - a != 0.0 or b == 0.0:
        return math.nan
    return math.fmod(a, b)


def _float_divmod(a: float, b: float, rounded: Callable[[float], float]) -> tuple[float, float]:
    """NumPy's `divmod` of floats, each step `rounded`. Source: `npy_divmod` in numpy/_core/src/npymath."""
    mod = fmod(a, b)
    if b == 0.0 or mod != mod:
        return divide(a, b) if b == 0.0 else math.nan, math.nan
    quotient = rounded(divide(rounded(a - mod), b))
    if mod:
        if (b < 0) != (mod < 0):
            mod = rounded(mod + b)
            quotient = rounded(quotient - 1.0)
    else:
        mod = math.copysign(0.0, b)
    if not quotient:
        return math.copysign(0.0, divide(a, b)), mod
    if quotient - quotient != 0.0:
        return quotient, mod
    floor = math.floor(quotient)
    return rounded(float(floor + 1 if quotient - floor > 0.5 else floor)), mod


def _wide(t: DType) -> Callable[[float], float]:
    """The rounding of intermediate results: f16 and bf16 compute in f32."""
    return rounder(t if t.bits >= 32 else f32)


def _floor_divide(t: DType) -> Op2:
    rounded = _wide(t)
    return lambda a, b: _float_divmod(a, b, rounded)[0]


def _remainder(t: DType) -> Op2:
    rounded = _wide(t)
    return lambda a, b: _float_divmod(a, b, rounded)[1]


def _integral(to_int: Callable[[float], int]) -> Op1:
    """`to_int` on floats: keeps the sign of zero, infinities and NaN."""

    def apply(x: float) -> float:
        return math.copysign(float(to_int(x)), x) if x - x == 0.0 else x

    return apply


def sqrt(x: float) -> float:
    """NaN below zero."""
    return math.nan if x < 0.0 else math.sqrt(x)


def minimum(a: Any, b: Any) -> Any:
    """NaN if either is; -0.0 is less than 0.0."""
    if a != a or b != b:
        return math.nan
    if a == b:
        return a if math.copysign(1.0, a) < 0 else b
    return a if a < b else b


def maximum(a: Any, b: Any) -> Any:
    """NaN if either is; 0.0 is greater than -0.0."""
    if a != a or b != b:
        return math.nan
    if a == b:
        return b if math.copysign(1.0, a) < 0 else a
    return a if a > b else b


def fma64(a: float, b: float, c: float) -> float:
    """`a * b + c` in f64 with one rounding."""
    if a - a != 0.0 or b - b != 0.0 or a == 0.0 or b == 0.0:
        return a * b + c
    if c - c != 0.0:
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def fma32(a: float, b: float, c: float) -> float:
    """`a * b + c` in f32 with one rounding: the sum is rounded to odd in f64 first.

    Source: S. Boldo and G. Melquiond, "Emulation of a FMA and correctly rounded sums" (2008).
    """
    product = a * b  # exact: 48 bits
    total = product + c
    if total - total == 0.0:
        back = total - product
        error = (product - (total - back)) + (c - back)
        if error and not struct.unpack("<q", struct.pack("<d", total))[0] & 1:
            total = math.nextafter(total, math.copysign(math.inf, error))
    return rounder(f32)(total)


def _fma(t: DType) -> Callable[[Any, Any, Any], Any]:
    if t.bits == 64:
        return fma64
    rounded = rounder(t)
    return lambda a, b, c: rounded(fma32(a, b, c))


# --------------------------------------------------------- casts and functions


@cache
def cast(source: DType, target: DType) -> Op1:
    """A value of type `source` converted to `target`."""
    if target.kind == "bool":
        return lambda x: x != 0
    if source.is_float:
        return rounder(target) if target.is_float else lambda x: float_to_int(x, target)
    if target.is_float:
        return lambda x: int_to_float(int(x), target)
    return lambda x: wrap(int(x), target)


_PACK = {"int": {8: "b", 16: "h", 32: "i", 64: "q"}, "uint": {8: "B", 16: "H", 32: "I", 64: "Q"},
         "float": {16: "e", 32: "f", 64: "d"}}  # fmt: skip


@cache
def bitcast(source: DType, target: DType) -> Op1:
    """The bits of a `source` read as `target`, of the same width."""

    def codec(t: DType) -> tuple[str, int]:
        """`struct`'s letter, and the bits by which bf16 is the upper half of an f32."""
        return ("f", 16) if t.name == "bf16" else (_PACK[t.kind][t.bits], 0)

    number = float if source.is_float else int
    (read, drop), (write, extend) = codec(source), codec(target)
    if drop == extend:
        return lambda x: struct.unpack(f"<{write}", struct.pack(f"<{read}", number(x)))[0]
    if drop:
        return lambda x: struct.unpack(f"<{write}", struct.pack("<f", float(x))[2:])[0]
    return lambda x: struct.unpack("<f", b"\0\0" + struct.pack(f"<{read}", number(x)))[0]


@cache
def function(name: str, t: DType) -> Callable[..., Any]:
    """The "primitive" builtin `name` for arguments of type `t` (`bitcast` is apart)."""
    plain: dict[str, Callable[..., Any]] = {
        "floor": _integral(math.floor),
        "ceil": _integral(math.ceil),
        "trunc": _integral(math.trunc),
        "round": _integral(round),
        "copysign": math.copysign,
        "isnan": lambda x: x != x,
        "isinf": lambda x: x == x and x - x != 0.0,
        "isfinite": lambda x: x - x == 0.0,
        "fmod": fmod,
    }
    match name:
        case "abs":
            return math.fabs if t.is_float else lambda x: wrap(abs(x), t)
        case "sqrt":
            rounded = rounder(t)
            return lambda x: rounded(sqrt(x))
        case "minimum":
            return minimum if t.is_float else python_min
        case "maximum":
            return maximum if t.is_float else python_max
        case "fma":
            return _fma(t)
        case "ipow":
            return _ipow(t)
        case _:
            return plain[name]
