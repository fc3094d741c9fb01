"""The table of functions that a `Call` can name: one row each.

"primitive" rows are implemented by every back end and the interpreter, for scalars and vectors.
"math" rows are defined in `kdsl.mathlib` in terms of primitives and expanded before code generation,
so that every target computes the same.

`rule` says how argument dtypes give the result's:
- "float": floats of any width; an integer is converted first as NumPy does (`float_of`). All arguments
  and the result share one float dtype.
- "number": any integer or float dtype, the same for arguments and result.
- "float->bool": a float gives bool_ (integers give a constant false in the front end).
- "any": see the row's comment.

`numpy` names the function that gives the row its Python meaning on scalars. `max_ulp` is the accuracy
promised for (f32, f64) against the exact result; None: exact or correctly rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from kdsl.dtypes import DType, f16, f32, f64

Rule = Literal["float", "number", "float->bool", "any"]


@dataclass(frozen=True, slots=True)
class Builtin:
    """One row: see the module's docstring."""

    name: str
    arity: int
    rule: Rule
    kind: Literal["primitive", "math"]
    numpy: str = ""
    max_ulp: tuple[float, float] | None = None


_ROWS = (
    # Primitives. f16 and bf16 arguments are computed in f32 and rounded once.
    Builtin("abs", 1, "number", "primitive", "abs"),  # MIN wraps to MIN
    Builtin("sqrt", 1, "float", "primitive", "sqrt"),
    Builtin("floor", 1, "float", "primitive", "floor"),
    Builtin("ceil", 1, "float", "primitive", "ceil"),
    Builtin("trunc", 1, "float", "primitive", "trunc"),
    Builtin("round", 1, "float", "primitive", "rint"),  # half to even
    Builtin("fma", 3, "float", "primitive"),  # one rounding, also where it costs a call
    Builtin("copysign", 2, "float", "primitive", "copysign"),
    Builtin("isnan", 1, "float->bool", "primitive", "isnan"),
    Builtin("isinf", 1, "float->bool", "primitive", "isinf"),
    Builtin("isfinite", 1, "float->bool", "primitive", "isfinite"),
    Builtin("minimum", 2, "number", "primitive", "minimum"),  # NaN in either operand gives NaN
    Builtin("maximum", 2, "number", "primitive", "maximum"),
    Builtin("bitcast", 1, "any", "primitive"),  # same width; the result's dtype is the Call's
    Builtin(
        "ipow", 2, "number", "primitive", "power"
    ),  # integers only, wraps; exponent < 0: fault ValueError
    Builtin("fmod", 2, "float", "primitive", "fmod"),  # exact, sign of the first operand
    # (i, extent, dim), i64: `i`, an index into dimension `dim` of a part of an array; fault IndexError unless
    # 0 <= i < extent. `dim` is a constant; the location is that of the part, whose text names it.
    Builtin("within", 3, "any", "primitive"),
    # Math, written in mathlib.
    Builtin("exp", 1, "float", "math", "exp", (1.1, 2.0)),
    Builtin("exp2", 1, "float", "math", "exp2", (2.5, 2.0)),
    Builtin("expm1", 1, "float", "math", "expm1", (2.5, 2.0)),
    Builtin("log", 1, "float", "math", "log", (2.5, 2.0)),
    Builtin("log2", 1, "float", "math", "log2", (2.5, 2.0)),
    Builtin("log10", 1, "float", "math", "log10", (2.5, 2.0)),
    Builtin("log1p", 1, "float", "math", "log1p", (2.5, 2.0)),
    Builtin("sin", 1, "float", "math", "sin", (2.5, 2.0)),
    Builtin("cos", 1, "float", "math", "cos", (2.5, 2.0)),
    Builtin("tan", 1, "float", "math", "tan", (2.5, 2.0)),
    Builtin("asin", 1, "float", "math", "arcsin", (2.5, 2.0)),
    Builtin("acos", 1, "float", "math", "arccos", (2.5, 2.0)),
    Builtin("atan", 1, "float", "math", "arctan", (2.5, 2.0)),
    Builtin("atan2", 2, "float", "math", "arctan2", (2.5, 2.0)),
    Builtin("sinh", 1, "float", "math", "sinh", (2.5, 2.0)),
    Builtin("cosh", 1, "float", "math", "cosh", (2.5, 2.0)),
    Builtin("tanh", 1, "float", "math", "tanh", (2.5, 2.0)),
    Builtin("erf", 1, "float", "math", "", (2.5, 2.0)),
    Builtin("rsqrt", 1, "float", "math", "", (2.5, 2.0)),
    Builtin("cbrt", 1, "float", "math", "cbrt", (2.5, 2.0)),
    Builtin("hypot", 2, "float", "math", "hypot", (2.5, 2.0)),
    Builtin("pow", 2, "float", "math", "power", (2.5, 2.0)),
    # Counter-based random numbers: arguments u64 (seed, i); random_bits gives u32, uniform f32 in [0, 1).
    Builtin("random_bits", 2, "any", "math"),
    Builtin("uniform", 2, "any", "math"),
)

TABLE: dict[str, Builtin] = {row.name: row for row in _ROWS}


@cache
def float_of(dtype: DType) -> DType:
    """The float type in which NumPy evaluates a math function: of i8 and bool_ f16, of i16 f32, else f64."""
    if dtype.is_float:
        return dtype
    return {8: f16, 16: f32}.get(dtype.bits, f64)
