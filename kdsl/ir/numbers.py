"""Exact arithmetic of element types on Python numbers: wrapping, rounding, shortest text.

Every value of a float type is a Python float, every value of an integer type a Python int, so IR
constants and the interpreter need no NumPy scalars (nor `ml_dtypes` for bf16).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache

from kdsl.dtypes import DType

_EXPONENTS = {"f16": (-24, 16), "bf16": (-133, 128), "f32": (-149, 128), "f64": (-1074, 1024)}
"""For each float type: the exponent of its smallest subnormal, and of the first power of two too large."""


def wrap(value: int, dtype: DType) -> int:
    """`value` modulo 2**bits, in the range of the integer type."""
    value &= (1 << dtype.bits) - 1
    return value - (1 << dtype.bits) if value > dtype.max else value


@cache
def rounder(dtype: DType) -> Callable[[float], float]:
    """The function that rounds a Python float to the float type `dtype`: once, to nearest, ties to even."""
    if dtype.name == "f64":
        return float
    if dtype.name == "f32":
        c_float = ctypes.c_float
        return lambda x: c_float(x).value
    bits = dtype.mantissa_bits
    lowest, too_large = _EXPONENTS[dtype.name]

    def round_narrow(x: float) -> float:
        if x == 0.0 or x - x != 0.0:  # zeros, infinities, NaN
            return x
        if abs(x) >= 2.0**too_large:
            return math.copysign(math.inf, x)
        unit = max(math.frexp(x)[1] - bits, lowest)
        r = math.ldexp(round(math.ldexp(x, -unit)), unit)
        return math.copysign(math.inf if abs(r) >= 2.0**too_large else r, x)

    return round_narrow


def round_float(x: float, dtype: DType) -> float:
    """`x` rounded once to the float type `dtype`."""
    return rounder(dtype)(x)


def int_to_float(value: int, dtype: DType) -> float:
    """An integer rounded once to the float type `dtype` (by way of f64 it would be rounded twice)."""
    extra = abs(value).bit_length() - dtype.mantissa_bits
    if extra > 0:
        quotient, rest = divmod(abs(value), 1 << extra)
        half = 1 << (extra - 1)
        if rest > half or (rest == half and quotient & 1):
            quotient += 1
        value = (quotient << extra) * (1 if value > 0 else -1)
    return round_float(float(value), dtype)


def float_to_int(x: float, dtype: DType) -> int:
    """`x` truncated and saturated to the integer type `dtype`; NaN gives 0."""
    if x != x:
        return 0
    if x - x != 0.0:
        return dtype.max if x > 0 else dtype.min
    return min(max(int(x), dtype.min), dtype.max)


def shortest(x: float, dtype: DType) -> str:
    """The shortest text that reads back as `x`, a finite value of the float type `dtype`: "0.1", "1e-05"."""
    for digits in range(1, 17):
        candidate = float(f"{x:.{digits}g}")
        if round_float(candidate, dtype) == x:
            return repr(candidate)
    return repr(x)


def number_text(value: bool | int | float, dtype: DType) -> str:
    """A value as `str` shows a NumPy scalar of `dtype`: what a kernel's `print` writes."""
    number = float(value) if dtype.is_float else bool(value) if dtype.kind == "bool" else int(value)
    return str(dtype(number))
