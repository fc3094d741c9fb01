"""What operators, casts and functions compute, against NumPy, Python and fractions, at edge values."""

from __future__ import annotations

import itertools
import math
import operator
import struct
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsl.dtypes import ALL, DType, bf16, bool_, f16, f32, f64, i8, i16, i32, i64, u8, u32, u64
from kdsl.ir import scalar_ops
from kdsl.ir.numbers import int_to_float, number_text, round_float, shortest, wrap

INTS = tuple(t for t in ALL if t.is_int)
FLOATS = tuple(t for t in ALL if t.is_float)
LIMITS = {"f16": (65504.0, 2.0**-24), "bf16": (3.3895313892515355e38, 2.0**-133),
          "f32": (3.4028234663852886e38, 2.0**-149), "f64": (1.7976931348623157e308, 5e-324)}  # fmt: skip


def edges(t: DType) -> list[Any]:
    """Values where something can go wrong."""
    if t == bool_:
        return [False, True]
    if t.is_int:
        near = (t.min, t.min + 1, -2, -1, 0, 1, 2, 3, 7, t.bits - 1, t.bits, t.max // 2 + 1, t.max - 1, t.max)
        return sorted({v for v in near if t.min <= v <= t.max})
    largest, smallest = LIMITS[t.name]
    values = [
        0.0,
        0.1,
        0.5,
        1.0,
        1.5,
        2.0,
        2.5,
        3.0,
        7.0,
        1000.0,
        largest,
        largest / 2,
        smallest,
        smallest * 3,
        math.inf,
    ]
    return [round_float(s * v, t) for v in values for s in (1.0, -1.0)] + [math.nan]


def same(got: Any, want: Any) -> bool:
    """Equal, of the same kind, NaN like NaN, -0.0 unlike 0.0."""
    if isinstance(want, float):
        return isinstance(got, float) and (repr(got) == repr(want))
    return type(got) is type(want) and bool(got == want)


def numpy_pairs(t: DType) -> Iterable[tuple[Any, Any, Any, Any]]:
    """Pairs of edge values, as numbers and as NumPy scalars."""
    for a, b in itertools.product(edges(t), repeat=2):
        yield a, b, np.array(a).astype(t.np)[()], np.array(b).astype(t.np)[()]


NUMPY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
         "//": operator.floordiv, "%": operator.mod, "&": operator.and_, "|": operator.or_,
         "^": operator.xor}  # fmt: skip


@pytest.mark.parametrize("t", INTS, ids=str)
@pytest.mark.parametrize("op", ["+", "-", "*", "//", "%", "&", "|", "^"])
def test_integers_are_numpys(op: str, t: DType) -> None:
    compute = scalar_ops.binary(op, t)
    with np.errstate(all="ignore"):
        for a, b, x, y in numpy_pairs(t):
            if b or op not in ("//", "%"):
                assert same(compute(a, b), NUMPY[op](x, y).item()), (a, op, b)


@pytest.mark.parametrize("t", INTS, ids=str)
def test_shifts(t: DType) -> None:
    left, right = scalar_ops.binary("<<", t), scalar_ops.binary(">>", t)
    for a, b, x, y in numpy_pairs(t):
        if 0 <= b < t.bits:
            assert left(a, b) == (x << y).item() and right(a, b) == (x >> y).item(), (a, b)
        else:
            assert left(a, b) == 0 and right(a, b) == (-1 if a < 0 else 0), (a, b)


@pytest.mark.parametrize("t", FLOATS, ids=str)
@pytest.mark.parametrize("op", ["+", "-", "*", "/"])
def test_float_arithmetic_is_numpys(op: str, t: DType) -> None:
    compute = scalar_ops.binary(op, t)
    with np.errstate(all="ignore"):
        for a, b, x, y in numpy_pairs(t):
            assert same(compute(a, b), float(NUMPY[op](x, y))), (a, op, b)


@pytest.mark.parametrize("t", [f16, f32, f64], ids=str)
@pytest.mark.parametrize("op", ["//", "%"])
def test_float_floor_division_is_numpys(op: str, t: DType) -> None:
    compute = scalar_ops.binary(op, t)
    with np.errstate(all="ignore"):
        for a, b, x, y in numpy_pairs(t):
            assert same(compute(a, b), float(NUMPY[op](x, y))), (a, op, b)


@settings(deadline=None, max_examples=300)
@given(st.floats(width=32), st.floats(width=32))
def test_f32_floor_division_is_numpys_for_random_operands(a: float, b: float) -> None:
    with np.errstate(all="ignore"):
        x, y = np.float32(a), np.float32(b)
        assert same(scalar_ops.binary("//", f32)(a, b), float(x // y))
        assert same(scalar_ops.binary("%", f32)(a, b), float(x % y))
        assert same(scalar_ops.fmod(a, b), float(np.fmod(x, y)))


@pytest.mark.parametrize("op", ["//", "%"])
def test_bf16_floor_division_is_f32s_rounded_once(op: str) -> None:
    narrow, wide = scalar_ops.binary(op, bf16), scalar_ops.binary(op, f32)
    for a, b in itertools.product(edges(bf16), repeat=2):
        assert same(narrow(a, b), round_float(wide(a, b), bf16))


@pytest.mark.parametrize("t", ALL, ids=str)
def test_min_and_max_are_pythons(t: DType) -> None:
    for a, b in itertools.product(edges(t), repeat=2):
        assert same(scalar_ops.binary("min", t)(a, b), min(a, b))
        assert same(scalar_ops.binary("max", t)(a, b), max(a, b))


def test_bool_arithmetic_is_numpys() -> None:
    for op in ("&", "|", "^", "+", "*"):
        for a, b in itertools.product([False, True], repeat=2):
            assert same(scalar_ops.binary(op, bool_)(a, b), bool(NUMPY[op](np.bool_(a), np.bool_(b))))


@pytest.mark.parametrize("t", ALL, ids=str)
def test_comparisons_are_numpys(t: DType) -> None:
    for a, b, x, y in numpy_pairs(t):
        for op, compute in scalar_ops.COMPARE.items():
            assert compute(a, b) is bool(compute(x, y)), (a, op, b)


@pytest.mark.parametrize("t", [*INTS, *FLOATS], ids=str)
def test_signs(t: DType) -> None:
    with np.errstate(all="ignore"):
        for a in edges(t):
            x = np.array(a).astype(t.np)[()]
            assert same(scalar_ops.unary("-", t)(a), (-x).item() if t.is_int else -a)
            assert same(scalar_ops.function("abs", t)(a), abs(x).item() if t.is_int else abs(a))
            if t.is_int:
                assert same(scalar_ops.unary("~", t)(a), (~x).item())


# ---------------------------------------------------------------- casts


def neighbours(x: float, t: DType) -> tuple[float, float, int]:
    """The next values of `t` below and above the finite `x`, and the last bit of `x`'s pattern."""
    code = {"f16": "<e", "f32": "<f", "f64": "<d"}.get(t.name)
    if code is None:
        down, up, last = neighbours_bits(x, "<f", 4, 1 << 16)
    else:
        down, up, last = neighbours_bits(x, code, t.bytes, 1)
    return down, up, last


def neighbours_bits(x: float, code: str, size: int, unit: int) -> tuple[float, float, int]:
    pattern = int.from_bytes(struct.pack(code, abs(x)), "little")

    def value(p: int) -> float:
        if p < 0:
            return -float(struct.unpack(code, (-p).to_bytes(size, "little"))[0])
        return float(struct.unpack(code, p.to_bytes(size, "little"))[0])

    up, down = value(pattern + unit), value(pattern - unit)
    return (down, up, pattern // unit & 1) if math.copysign(1, x) > 0 else (-up, -down, pattern // unit & 1)


def is_nearest(got: float, exact: Fraction, t: DType) -> bool:
    """Whether `got` is `exact` rounded once to nearest, ties to even."""
    largest, _ = LIMITS[t.name]
    if math.isinf(got):
        below = Fraction(neighbours(largest, t)[0])
        return abs(exact) >= Fraction(largest) + (Fraction(largest) - below) / 2 and (got > 0) == (exact > 0)
    down, up, last = neighbours(got, t)
    error = abs(Fraction(got) - exact)
    others = [abs(Fraction(n) - exact) for n in (down, up) if math.isfinite(n)]
    return all(error < o or (error == o and not last) for o in others)


@pytest.mark.parametrize("t", FLOATS, ids=str)
@settings(deadline=None, max_examples=200)
@given(x=st.floats(allow_nan=False, allow_infinity=False), near=st.integers(-3, 3), kind=st.integers(0, 2))
def test_rounding_is_exact(t: DType, x: float, near: int, kind: int) -> None:
    if kind:  # next to a value of `t`, or to the middle of two
        base = round_float(x, t)
        if math.isfinite(base):
            up = neighbours(base, t)[1]
            x = base if kind == 1 or math.isinf(up) else base / 2 + up / 2
            for _ in range(abs(near)):
                x = math.nextafter(x, math.inf if near > 0 else -math.inf)
    if math.isfinite(x):
        got = round_float(x, t)
        assert is_nearest(got, Fraction(x), t) and math.copysign(1, got) == math.copysign(1, x)


@pytest.mark.parametrize("t", FLOATS, ids=str)
@settings(deadline=None, max_examples=200)
@given(
    n=st.integers(-(2**63), 2**64 - 1) | st.integers(0, 63).flatmap(lambda s: st.integers(2**s - 2, 2**s + 2))
)
def test_integers_round_once(t: DType, n: int) -> None:
    assert is_nearest(int_to_float(n, t), Fraction(n), t)


def test_rounding_twice_would_differ() -> None:
    assert int_to_float(2**60 + 2**36 + 1, f32) == 2.0**60 + 2.0**37
    assert round_float(1 + 2.0**-8 + 2.0**-30, bf16) == 1.0078125


@pytest.mark.parametrize("target", ALL, ids=str)
@pytest.mark.parametrize("source", ALL, ids=str)
def test_casts_are_numpys(source: DType, target: DType) -> None:
    convert = scalar_ops.cast(source, target)
    with np.errstate(all="ignore"):
        for a in edges(source):
            if source.is_float and target.is_int:
                want: Any = saturated(a, target)
            elif target == bf16 and source.bits == 64:
                continue  # ml_dtypes rounds by way of f32; `test_rounding_is_exact` has the meaning
            else:
                want = np.array(a).astype(source.np).astype(target.np).item()
            assert same(convert(a), want), a


def saturated(x: float, t: DType) -> int:
    """The documented cast of a float to an integer."""
    if math.isnan(x):
        return 0
    return max(
        t.min,
        min(t.max, math.trunc(Fraction(x)) if math.isfinite(x) else (1 << 70) * int(math.copysign(1, x))),
    )


@pytest.mark.parametrize(
    ("x", "t", "want"),
    [(300.7, u8, 255), (-1.5, u8, 0), (-1.5, i8, -1), (math.nan, i32, 0), (math.inf, i64, 2**63 - 1),
     (-math.inf, i64, -(2**63)), (-math.inf, u64, 0), (2.0**63, i64, 2**63 - 1), (127.9, i8, 127),
     (-128.9, i8, -128)],
)  # fmt: skip
def test_floats_saturate(x: float, t: DType, want: int) -> None:
    assert scalar_ops.cast(f64, t)(x) == want


# ------------------------------------------------------------ functions


@pytest.mark.parametrize("t", [f16, f32, f64], ids=str)
def test_float_functions_are_numpys(t: DType) -> None:
    names = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "rint",
             "isnan": "isnan", "isinf": "isinf", "isfinite": "isfinite"}  # fmt: skip
    with np.errstate(all="ignore"):
        for a in [*edges(t), *(round_float(n + 0.5, t) for n in range(-4, 5)), 0.49999999999999994, -0.3]:
            x = np.array(a).astype(t.np)[()]
            for name, numpy_name in names.items():
                got, want = scalar_ops.function(name, t)(float(x)), getattr(np, numpy_name)(x).item()
                assert same(got, want) or (got != got and want != want), (name, a)
        for a, b, x, y in numpy_pairs(t):
            assert same(scalar_ops.function("copysign", t)(a, b), np.copysign(x, y).item())
            assert same(scalar_ops.function("fmod", t)(a, b), np.fmod(x, y).item())


@pytest.mark.parametrize("t", [*INTS, *FLOATS], ids=str)
def test_minimum_and_maximum_propagate_nan_and_order_zeros(t: DType) -> None:
    low, high = scalar_ops.function("minimum", t), scalar_ops.function("maximum", t)
    for a, b in itertools.product(edges(t), repeat=2):
        if a != a or b != b:
            assert math.isnan(low(a, b)) and math.isnan(high(a, b))
        elif a != b or t.is_int:
            assert low(a, b) == min(a, b) and high(a, b) == max(a, b)
    if t.is_float:
        for a, b in ((0.0, -0.0), (-0.0, 0.0)):
            assert same(low(a, b), -0.0) and same(high(a, b), 0.0)


@pytest.mark.parametrize("t", [i8, u8, i16, i32, u32, i64, u64], ids=str)
def test_integer_powers_wrap(t: DType) -> None:
    power = scalar_ops.function("ipow", t)
    for a in edges(t):
        for b in (0, 1, 2, 3, 31, 64, 100):
            assert power(a, b) == wrap(a**b, t)
    if t.min < 0:
        with pytest.raises(ValueError):
            power(2, -1)


def exact_fma(a: float, b: float, c: float, t: DType) -> None:
    got = scalar_ops.function("fma", t)(a, b, c)
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert is_nearest(got, exact, t)
    if not exact:
        assert got == 0.0
    else:
        assert math.copysign(1, got) == (1 if exact > 0 else -1)


finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
finite64 = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=400)
@given(finite32, finite32, finite32, st.integers(-3, 3))
def test_fma_of_f32_rounds_once(a: float, b: float, c: float, near: int) -> None:
    exact_fma(a, b, c, f32)
    close = round_float(-a * b, f32)  # cancellation
    if math.isfinite(close):
        exact_fma(a, b, close, f32)
    exact_fma(1.0 + 2.0**-12, 1.0 + 2.0**-12, math.copysign(2.0**-30, c) * (1 + near), f32)


@settings(deadline=None, max_examples=400)
@given(finite64, finite64, finite64)
def test_fma_of_f64_rounds_once(a: float, b: float, c: float) -> None:
    exact_fma(a, b, c, f64)
    if math.isfinite(a * b):
        exact_fma(a, b, -(a * b), f64)


def test_fma_of_infinities() -> None:
    for t in (f32, f64):
        fma = scalar_ops.function("fma", t)
        assert math.isnan(fma(math.inf, 0.0, 1.0)) and math.isnan(fma(1.0, math.inf, -math.inf))
        assert fma(1.0, 2.0, math.inf) == math.inf and math.isnan(fma(1.0, 2.0, math.nan))
        largest = LIMITS[t.name][0]
        assert fma(largest, largest, -math.inf) == -math.inf and fma(largest, largest, 0.0) == math.inf
        assert same(fma(-0.0, 1.0, -0.0), -0.0) and same(fma(1.0, 1.0, -1.0), 0.0)


@pytest.mark.parametrize("source", [t for t in ALL if t != bool_], ids=str)
def test_bitcasts_are_numpys_views(source: DType) -> None:
    for target in (t for t in ALL if t != bool_ and t.bits == source.bits):
        for a in edges(source):
            got = scalar_ops.bitcast(source, target)(a)
            want = np.array(a).astype(source.np).view(target.np).item()
            assert same(got, want), (a, target)


# ----------------------------------------------------------------- text


@settings(deadline=None, max_examples=300)
@given(finite64)
def test_constants_print_the_shortest_text(x: float) -> None:
    assert shortest(x, f64) == repr(x)
    for t in FLOATS:
        v = round_float(x, t)
        if math.isfinite(v):
            text = shortest(v, t)
            assert same(round_float(float(text), t), v)
            if t != bf16:
                assert same(float(text), float(str(v if t == f64 else t(v))))


def test_values_print_as_numpys() -> None:
    assert number_text(1e6, f32) == str(np.float32(1e6)) and number_text(0.1, f64) == "0.1"
    assert number_text(math.inf, f32) == "inf" and number_text(-math.inf, f16) == "-inf"
    assert number_text(math.nan, f64) == "nan" and number_text(True, bool_) == "True"
    assert number_text(2**64 - 1, u64) == "18446744073709551615" and number_text(-0.0, f32) == "-0.0"
