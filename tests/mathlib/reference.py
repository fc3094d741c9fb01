"""Exact values, errors in ulps, samples and kernels for the math functions; also used by the benchmark.

Exact values of f32 functions come from NumPy in f64, those of f64 functions from the 80-bit `longdouble`
of x86 (elsewhere longdouble may be no wider than f64: `EXTENDED` says so).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import kdsl
from kdsl.dtypes import DType, f32, f64
from kdsl.ir.builtins import TABLE
from kdsl.mathlib import implementation

N = kdsl.sizes("N")
T = kdsl.typevar("T", f32, f64)

UNARY = tuple(r.name for r in TABLE.values() if r.kind == "math" and r.rule == "float" and r.arity == 1)
BINARY = tuple(r.name for r in TABLE.values() if r.kind == "math" and r.rule == "float" and r.arity == 2)
DTYPES = (f32, f64)
EXTENDED = np.finfo(np.longdouble).nmant >= 63


def _erf(x: Any) -> Any:
    """2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n + 1) / (2n + 1)!!, all terms of one sign."""
    a = np.minimum(np.abs(x), x.dtype.type(7))
    term = total = a
    for n in range(1, 200):
        term = term * (2 * a * a) / (2 * n + 1)
        total = total + term
    pi = np.longdouble("3.14159265358979323846264338327950288")
    y = (2 / np.sqrt(pi)).astype(x.dtype) * np.exp(-a * a) * total
    return np.copysign(np.where(a < 7, y, np.where(np.isnan(x), x, 1)), x)


def exact(name: str, *args: Any) -> Any:
    """The function in the type twice as wide as the arguments', as far as there is one."""
    with np.errstate(all="ignore"):
        wide = [a.astype(np.float64 if a.dtype == np.float32 else np.longdouble) for a in args]
        if name == "erf":
            return _erf(wide[0])
        if name == "rsqrt":
            return 1 / np.sqrt(wide[0])
        return getattr(np, TABLE[name].numpy)(*wide)


def ulps(got: Any, want: Any) -> Any:
    """|got - want| in units of the last place in got's type; inf where nan or a zero's sign differs.

    The spacing of denormals is the smallest unit. Where exactly one of `got` and rounded `want` is infinite,
    infinity counts as the power of two behind the largest number.
    """
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        top = want.dtype.type(2.0) ** int(info.maxexp)
        rounded = want.astype(got.dtype)
        g = np.where(np.isinf(got), np.copysign(top, got), got.astype(want.dtype))
        w = np.where(np.isinf(want), np.copysign(top, want), want)
        exponent = np.clip(np.frexp(w)[1] - 1, info.minexp, info.maxexp - 1) - info.nmant
        error = np.ldexp(np.abs(g - w), -exponent)
        same = (got == rounded) & (np.signbit(got) == np.signbit(rounded)) & np.isinf(got)
        error = np.where(same, 0, error)
        zero = (want == 0) & ((got != 0) | (np.signbit(got) != np.signbit(want)))
        wrong = zero | (np.isnan(got) != np.isnan(want))
        return np.where(wrong, np.inf, np.where(np.isnan(want), 0, error)).astype(np.float64)


def evaluate(name: str, *args: Any) -> Any:
    """The definition run by NumPy on arrays: every operation rounded, no contraction."""
    dtype = f32 if args[0].dtype == np.float32 else f64
    with np.errstate(all="ignore"):
        return implementation(name, dtype)(*args)


@cache
def kernel(name: str, strict: bool = False) -> Callable[..., None]:
    """A kernel that applies one function to arrays: `kernel(name)(A, …, out)`."""
    function = getattr(kdsl, name)
    if TABLE[name].arity == 1:

        @kdsl.kernel(strict=strict, name=f"apply_{name}")
        def unary(A: T[N], out: T[N]):
            for i in range(N):
                out[i] = function(A[i])

        return unary

    @kdsl.kernel(strict=strict, name=f"apply_{name}")
    def binary(A: T[N], B: T[N], out: T[N]):
        for i in range(N):
            out[i] = function(A[i], B[i])

    return binary


def compiled(name: str, *args: Any, strict: bool = False, target: str = "cpu") -> Any:
    """The function through the whole pipeline."""
    out = np.empty_like(args[0])
    kernel(name, strict).on(target)(*args, out)  # type: ignore[attr-defined]
    return out


# ------------------------------------------------------------------------ samples

_COMMON = (
    0.0, 0.125, 0.25, 0.3, 0.41421356, 0.5, 0.625, 0.7071067811865476, 0.75, 0.9, 1.0, 1.4142135623730951,
    1.5, 1.5707963267948966, 2.0, 2.5, 3.0, 3.141592653589793, 4.0, 5.5, 8.0, 9.5, 16.0, 22.0, 27.0, 64.0,
    100.0, 709.7, 710.4, 745.1, 1e3, 12000.0, 1e4, 1e5, 1.6e6, 1e7, 1e10, 1e20, 1e30, 3.4e38, 1e100, 1e300,
    1e-3, 1e-5, 1e-10, 1e-20, 1e-30, 1e-38, 1e-40, 1e-45, 1e-100, 1e-300, 1e-310, 5e-324, 88.7, 89.4, 103.9,
    127.99, 128.0, 149.0, 150.0, 1023.99, 1024.0, 1074.0, 1075.0, 16777215.0, 16777217.0, 9007199254740991.0,
)  # fmt: skip


def special(dtype: DType) -> Any:
    """Numbers at which functions change their mind, their neighbours, and everything that is not a number."""
    info = np.finfo(dtype.np)
    edge = [info.max, info.tiny, info.smallest_subnormal, 1 - info.epsneg, 1 + info.eps, np.inf, np.nan]
    with np.errstate(all="ignore"):
        x = np.array([*_COMMON, *edge]).astype(dtype.np)
        x = np.concatenate([x, np.nextafter(x, dtype.np.type(0)), np.nextafter(x, dtype.np.type(np.inf))])
        return np.concatenate([x, -x])


def spread(dtype: DType, count: int, rng: np.random.Generator, low: int = 0, high: int = 0) -> Any:
    """Numbers with uniform exponent in [low, high) and random sign; of any bits when no range is given."""
    if low == high:
        bits = rng.integers(0, 2**dtype.bits, count, dtype=np.uint64 if dtype == f64 else np.uint32)
        return bits.view(dtype.np)
    x = np.exp2(rng.uniform(low, high, count)) * rng.choice([-1.0, 1.0], count)
    return x.astype(dtype.np)


def samples(name: str, dtype: DType, count: int, seed: int = 1) -> tuple[Any, ...]:
    """About `count` arguments where `name` computes something, for angles also near multiples of pi / 2."""
    rng = np.random.default_rng(seed)
    part = count // 4
    if TABLE[name].arity == 1:
        wide = {"exp": 745, "expm1": 710, "exp2": 1075, "sinh": 710, "cosh": 710}.get(name, 20)
        wide = wide if dtype == f64 else wide / 7
        turns = rng.integers(1, 800_000, part) * (np.pi / 2)
        return (
            np.concatenate(
                [
                    rng.uniform(-3, 3, part).astype(dtype.np),
                    rng.uniform(-wide, wide, part).astype(dtype.np),
                    turns.astype(dtype.np)
                    if name in ("sin", "cos", "tan")
                    else spread(dtype, part, rng, -40, 2),
                    spread(dtype, part, rng),
                ]
            ),
        )
    top = 120 if dtype == f32 else 1000
    x = np.concatenate([spread(dtype, part, rng, -top, top), spread(dtype, part, rng, -3, 3)])
    if name == "pow":
        x = np.abs(x)
        near = (1 + spread(dtype, part, rng, -dtype.mantissa_bits + 1, -2).astype(np.float64)).astype(
            dtype.np
        )
        x = np.concatenate([x, near])
        with np.errstate(all="ignore"):
            y = rng.uniform(-1.2, 1.05, x.size) * (top + 8) / np.log2(x.astype(np.float64))
            y = np.clip(y, -1e30, 1e30).astype(dtype.np)
        whole = rng.integers(-40, 40, part).astype(dtype.np)
        return np.concatenate([x, spread(dtype, part, rng, -4, 4)]), np.concatenate([y, whole])
    y = (x * np.exp2(rng.uniform(-4, 4, x.size))).astype(dtype.np)
    return np.concatenate([x, spread(dtype, 2 * part, rng)]), np.concatenate(
        [y, spread(dtype, 2 * part, rng)]
    )


def special_pairs(dtype: DType) -> tuple[Any, Any]:
    """All pairs of the numbers that have a row in C's tables of special cases, and some plain ones."""
    info = np.finfo(dtype.np)
    odd = [3.0, 2.0**dtype.mantissa_bits - 1, 2.0 ** (dtype.mantissa_bits - 1) + 1]
    values = [
        0.0,
        0.5,
        1.0,
        2.0,
        2.5,
        10.0,
        2.0**60,
        2.0**-60,
        *odd,
        info.max,
        info.tiny,
        info.smallest_subnormal,
    ]
    values += [1 - info.epsneg, 1 + info.eps, np.inf, np.nan]
    x = np.array([*values, *[-v for v in values]]).astype(dtype.np)
    a, b = np.meshgrid(x, x)
    return a.ravel(), b.ravel()
