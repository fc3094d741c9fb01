"""The math functions in the DSL's own terms: straight-line functions of scalars, one for each element type.

They are valid in a kernel (`definition` gives their IR) and run as Python on NumPy scalars and arrays
(`implementation`). Constraints that all of them keep, so that every target computes the same: nothing wider
than the argument's type in floating point, no fma, and error terms only from exact products and from sums,
so that contracting `a * b + c` changes the last bits and never the accuracy. They must be compiled without
reassociation and without the assumption that floats are finite, also in kernels that allow both.

Errors quoted beside polynomials are those of the coefficients as written, over the stated interval.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from kdsl.dtypes import DType
from kdsl.ir.builtins import TABLE
from kdsl.ir.definition import Definition

_MODULES = {
    "exponential": ("exp", "exp2", "expm1"),
    "logarithm": ("log", "log2", "log10", "log1p"),
    "trigonometric": ("sin", "cos", "tan"),
    "inverse_trigonometric": ("asin", "acos", "atan", "atan2"),
    "hyperbolic": ("sinh", "cosh", "tanh"),
    "error_function": ("erf",),
    "power": ("pow", "rsqrt", "cbrt", "hypot"),
    "random": ("random_bits", "uniform"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def implementation(name: str, dtype: DType) -> Callable[..., Any]:
    """The Python function behind the "math" row `name` for `dtype` (f32, f64; u64 for random numbers).

    It also runs on NumPy scalars and arrays of that type.
    """
    function = getattr(import_module(f"kdsl.mathlib.{_MODULE_OF[name]}"), f"{name}_{dtype.name}")
    assert callable(function)
    return function  # type: ignore[no-any-return]


@cache
def definition(name: str, dtype: DType) -> Definition:
    """The definition of the "math" row `name` for arguments of `dtype`; parsed once, alone."""
    from kdsl.frontend_ast import build_definition

    return build_definition(implementation(name, dtype), name, (dtype,) * TABLE[name].arity, {})
