"""Each function keeps its promise of accuracy, compiled with and without contraction and run by NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kdsl.dtypes import DType, f32, f64
from kdsl.ir.builtins import TABLE
from tests.mathlib import reference as ref

COUNT = 40_000

EVERY = pytest.mark.parametrize("name", (*ref.UNARY, *ref.BINARY))
DTYPE = pytest.mark.parametrize("dtype", ref.DTYPES, ids=repr)


def arguments(name: str, dtype: DType) -> tuple[Any, ...]:
    """Samples and all special values."""
    given = ref.samples(name, dtype, COUNT)
    extra = ref.special_pairs(dtype) if len(given) == 2 else (ref.special(dtype),)
    return tuple(np.concatenate(pair) for pair in zip(given, extra))


def assert_accurate(name: str, dtype: DType, got: Any, args: tuple[Any, ...]) -> None:
    row = TABLE[name]
    assert row.max_ulp is not None
    error = ref.ulps(got, ref.exact(name, *args))
    worst = int(np.argmax(error))
    shown = ", ".join(repr(a[worst]) for a in args)
    limit = row.max_ulp[0 if dtype == f32 else 1]
    assert error[worst] <= limit, f"{name}({shown}) gives {got[worst]!r}: {error[worst]:.3f} ulps"


@DTYPE
@EVERY
def test_accuracy(name: str, dtype: DType) -> None:
    if dtype == f64 and not ref.EXTENDED:
        pytest.skip("longdouble is no wider than f64 here")
    args = arguments(name, dtype)
    evaluated = ref.evaluate(name, *args)
    assert_accurate(name, dtype, evaluated, args)
    assert_accurate(name, dtype, ref.compiled(name, *args), args)


@DTYPE
@EVERY
def test_strict_gives_the_bits_of_numpy(name: str, dtype: DType) -> None:
    args = arguments(name, dtype)
    got, want = ref.compiled(name, *args, strict=True), ref.evaluate(name, *args)
    unsigned = np.uint32 if dtype == f32 else np.uint64
    wrong = (got.view(unsigned) != want.view(unsigned)) & ~(np.isnan(got) & np.isnan(want))
    assert not wrong.any(), [tuple(a[wrong][:3]) for a in (*args, got, want)]


@DTYPE
@EVERY
def test_interpreter_gives_the_bits_of_numpy(name: str, dtype: DType) -> None:
    args = tuple(a[::1999] for a in arguments(name, dtype))
    got, want = ref.compiled(name, *args, target="interpreter"), ref.evaluate(name, *args)
    np.testing.assert_array_equal(got, want)


def test_f32_functions_use_nothing_wider() -> None:
    from kdsl.ir.walk import subexprs
    from kdsl.mathlib import definition

    for name in (*ref.UNARY, *ref.BINARY):
        assert all(e.dtype != f64 for e in subexprs(definition(name, f32).body)), name


HARDEST_F64 = 6381956970095103.0 * 2.0**797
"""The double nearest to a multiple of pi / 2, in units of its distance (known from worst-case searches)."""


@pytest.mark.parametrize(
    ("name", "x", "want"),
    [
        ("sin", HARDEST_F64, 1.0),
        ("cos", HARDEST_F64, -4.687165924254628e-19),
        ("tan", HARDEST_F64, -2.133485385753704e18),
        ("sin", 1e22, -0.8522008497671888),
        ("cos", 1e22, 0.523214785395139),
        ("tan", 1e22, -1.6287782256068988),
        ("sin", 2.0**1023, 0.563127779850884),
        ("cos", 2.0**1023, -0.826369834614148),
        ("tan", 2.0**1023, -0.6814476476066215),
    ],
)
def test_large_angles(name: str, x: float, want: float) -> None:
    """Exact values from mpmath with 3000 bits, rounded."""
    got = ref.compiled(name, np.array([x, -x]))
    mirrored = want if name == "cos" else -want
    assert np.all(ref.ulps(got, np.array([want, mirrored])) <= 2)


@pytest.mark.parametrize("name", ("sin", "cos", "tan"))
def test_f32_angles_nearest_to_multiples_of_half_pi(name: str) -> None:
    """From the continued fractions of 2^e / (pi / 2); their distances are 1e-9 to 3e-9 quarter turns."""
    x = np.array([16367173 * 2.0**72, 10741887 * 2.0**11, 16367173 * 2.0**73, 10741887 * 2.0**12], np.float32)
    assert_accurate(name, f32, ref.compiled(name, x), (x,))
