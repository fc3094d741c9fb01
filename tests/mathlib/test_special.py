"""Infinities, nan, signed zeros: the class of each result is NumPy's, on every way to run a function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kdsl.dtypes import DType
from kdsl.ir.builtins import TABLE
from tests.mathlib import reference as ref

VALUES = (0.0, 0.5, 1.0, 2.0, 3.0, 1e6, math.inf, math.nan)
DTYPE = pytest.mark.parametrize("dtype", ref.DTYPES, ids=repr)


def expected(name: str, *args: Any) -> Any:
    """What NumPy (and for erf Python) gives in the arguments' type."""
    with np.errstate(all="ignore"):
        if name == "erf":
            return np.array([math.erf(x) for x in args[0]], args[0].dtype)
        return 1 / np.sqrt(args[0]) if name == "rsqrt" else getattr(np, TABLE[name].numpy)(*args)


def assert_same_class(got: Any, want: Any, args: tuple[Any, ...]) -> None:
    plain = np.isfinite(want) & (want != 0)
    agree = (got == want) & (np.signbit(got) == np.signbit(want)) | (np.isnan(got) & np.isnan(want))
    agree |= plain & np.isclose(got, want, rtol=1e-6)
    assert agree.all(), [tuple(a[~agree]) for a in (*args, got, want)]


def arguments(name: str, dtype: DType) -> tuple[Any, ...]:
    x = np.array([*VALUES, *[-v for v in VALUES]]).astype(dtype.np)
    if TABLE[name].arity == 1:
        return (x,)
    a, b = np.meshgrid(x, x)
    return a.ravel(), b.ravel()


@DTYPE
@pytest.mark.parametrize("name", (*ref.UNARY, *ref.BINARY))
def test_special_values(name: str, dtype: DType) -> None:
    args = arguments(name, dtype)
    want = expected(name, *args)
    assert_same_class(ref.evaluate(name, *args), want, args)
    assert_same_class(ref.compiled(name, *args), want, args)
    assert_same_class(ref.compiled(name, *args, target="interpreter"), want, args)


@DTYPE
def test_pow_of_c99(dtype: DType) -> None:
    """The rows of C99's annex F.9.4.4, by name rather than by NumPy's word."""
    inf, nan = math.inf, math.nan
    rows = [
        (0.0, -3.0, inf), (-0.0, -3.0, -inf), (-0.0, -2.0, inf), (0.0, -inf, inf), (0.0, 3.0, 0.0),
        (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0), (-0.0, 0.5, 0.0), (-1.0, inf, 1.0), (-1.0, -inf, 1.0),
        (1.0, nan, 1.0), (nan, 0.0, 1.0), (nan, -0.0, 1.0), (-2.0, 0.5, nan), (0.5, -inf, inf),
        (2.0, -inf, 0.0), (0.5, inf, 0.0), (2.0, inf, inf), (-inf, -3.0, -0.0), (-inf, -2.0, 0.0),
        (-inf, 3.0, -inf), (-inf, 2.0, inf), (-inf, 0.5, inf), (inf, -1.0, 0.0), (inf, 1.0, inf),
        (-2.0, 3.0, -8.0), (-2.0, 2.0, 4.0), (2.0, nan, nan), (nan, 1.0, nan),
    ]  # fmt: skip
    x, y, want = (np.array(column).astype(dtype.np) for column in zip(*rows))
    assert_same_class(ref.compiled("pow", x, y), want, (x, y))
    assert_same_class(ref.evaluate("pow", x, y), want, (x, y))


@DTYPE
@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("exp", [(0.0, 1.0)]),
        ("exp2", [(float(n), 2.0**n) for n in range(-120, 120)] + [(-149.0, 2.0**-149)]),
        ("log2", [(2.0**n, float(n)) for n in range(-149, 128)]),
        ("log", [(1.0, 0.0)]),
        ("log10", [(1.0, 0.0), (10.0, 1.0), (100.0, 2.0), (1000.0, 3.0)]),
        ("cbrt", [(0.0, 0.0), (1.0, 1.0), (8.0, 2.0), (-27.0, -3.0), (2.0**-120, 2.0**-40)]),
        ("rsqrt", [(4.0, 0.5), (0.25, 2.0), (1.0, 1.0)]),
        ("tanh", [(30.0, 1.0), (-30.0, -1.0)]),
        ("erf", [(7.0, 1.0), (-7.0, -1.0)]),
        ("cosh", [(0.0, 1.0)]),
        ("cos", [(0.0, 1.0)]),
        ("acos", [(1.0, 0.0)]),
    ],
)
def test_exact_points(name: str, points: list[tuple[float, float]], dtype: DType) -> None:
    x, want = (np.array(column).astype(dtype.np) for column in zip(*points))
    np.testing.assert_array_equal(ref.compiled(name, x), want)
    np.testing.assert_array_equal(ref.evaluate(name, x), want)
