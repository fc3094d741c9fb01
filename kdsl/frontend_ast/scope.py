"""Names of the enclosing Python scope, and what the objects behind them mean in a kernel."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kdsl.dtypes import DType, Size, TypeVar, from_numpy
from kdsl.frontend_ast import core
from kdsl.frontend_ast.frames import Static, Tuple, Value
from kdsl.frontend_ast.source import lookup as lookup
from kdsl.frontend_ast.syntax import MOST_BITS as MOST_BITS
from kdsl.ir.builtins import TABLE
from kdsl.source import Loc


class Unknown(Exception):
    """A captured object that has no meaning in a kernel."""

    def __init__(self, title: str, help: str) -> None:
        self.title = title
        self.help = help
        super().__init__(title)


class Function:
    """A function of the language by name: a row of `ir.builtins`, or one that the front end knows."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


_PYTHON: dict[object, str] = {
    abs: "py.abs", min: "py.min", max: "py.max", pow: "py.pow", round: "py.round", divmod: "py.divmod",
    len: "py.len", range: "py.range", print: "py.print", int: "py.int", float: "py.float", bool: "py.bool",
}  # fmt: skip

_MATH: dict[str, str] = {"floor": "math.floor", "ceil": "math.ceil", "trunc": "math.trunc", "fabs": "abs"}

_NUMPY: dict[str, str] = {
    **{row.numpy: row.name for row in TABLE.values() if row.numpy},
    "absolute": "abs", "fabs": "abs", "power": "np.power", "arcsin": "asin", "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2", "reciprocal": "np.reciprocal", "square": "np.square", "logical_not": "np.logical_not",
}  # fmt: skip


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The candidate closest in spelling, or an empty string."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(candidates), 1)), "")


def wrap(obj: Any, size: Callable[[Size], core.Expr], plain_functions: bool, loc: Loc | None) -> Value:
    """A captured Python object as a value. Raises Unknown for what a kernel cannot use."""
    if isinstance(obj, np.generic):
        dtype = from_numpy(obj.dtype)
        if dtype is None:
            raise Unknown(
                f"a NumPy `{obj.dtype}` value cannot be used", "convert it outside: float(x) or int(x)"
            )
        return core.Num(obj.item() if dtype.name != "bf16" else float(obj), dtype, loc)
    if isinstance(obj, (bool, int, float)):
        if isinstance(obj, int) and obj.bit_length() > MOST_BITS:
            raise Unknown(f"an integer of {obj.bit_length()} bits cannot be used", "reduce it outside")
        return core.Num(obj, loc=loc)
    if isinstance(obj, Size):
        return size(obj)
    if isinstance(obj, tuple):
        items = (wrap(x, size, plain_functions, loc) for x in obj)
        return Tuple(tuple(items))
    if obj is None or isinstance(obj, (DType, TypeVar, str, types.ModuleType, Function)) or obj is Ellipsis:
        return Static(obj)
    if getattr(obj, "__kdsl_source__", None) is not None:
        return Static(obj)
    builtin = getattr(obj, "__kdsl_builtin__", None)
    if isinstance(builtin, str):
        return Static(Function(builtin))
    try:
        python = _PYTHON.get(obj)
    except TypeError:
        python = None
    if python is not None:
        return Static(Function(python))
    if isinstance(obj, type) and issubclass(obj, np.generic):
        dtype = from_numpy(np.dtype(obj))
        if dtype is not None:
            return Static(dtype)
    if isinstance(obj, np.dtype):
        dtype = from_numpy(obj)
        if dtype is not None:
            return Static(dtype)
    name = getattr(obj, "__name__", "")
    if isinstance(obj, np.ufunc) and name in _NUMPY:
        return Static(Function(_NUMPY[name]))
    if obj is np.where:
        return Static(Function("where"))
    in_math = isinstance(obj, types.BuiltinFunctionType) and getattr(math, name, None) is obj
    if in_math and (name in _MATH or name in TABLE):
        return Static(Function(_MATH.get(name, name)))
    if plain_functions and isinstance(obj, types.FunctionType):
        return Static(obj)
    raise Unknown(*_why(obj, name))


_INSTEAD = {
    "enumerate": "loop over the indices: for i in range(len(A)): ... A[i]",
    "zip": "loop over the indices: for i in range(len(A)): ... A[i], B[i]",
    "reversed": "loop downwards: for i in range(n - 1, -1, -1)",
    "sum": "add in a loop: total += A[i]",
    "any": "test in a loop, and `break` when the answer is known",
    "all": "test in a loop, and `break` when the answer is known",
    "sorted": "sort outside, or write the loops of a sorting network",
    "dot": "write the loop: total += A[i] * B[i]",
    "matmul": "write the three loops, or call a kernel that has them",
    "mean": "add in a loop and divide",
    "zeros": "make a local array: kdsl.zeros(shape, f32)",
    "empty": "make a local array: kdsl.empty(shape, f32)",
    "ones": "make a local array: kdsl.full(shape, 1, f32)",
    "full": "make a local array: kdsl.full(shape, value, f32)",
    "zeros_like": "make a local array: kdsl.zeros(A.shape, f32)",
    "empty_like": "make a local array: kdsl.empty(A.shape, f32)",
    "arange": "loop over `range(n)`",
    "array": "make a local array: kdsl.empty(n, f32)",
}


def _why(obj: Any, name: str) -> tuple[str, str]:
    if isinstance(obj, np.ndarray):
        return "an array of the enclosing scope cannot be used", "pass it as an argument"
    if isinstance(obj, types.FunctionType) and not (obj.__module__ or "").startswith("numpy"):
        return (
            f"`{name}` is a plain Python function",
            "decorate it with `@kdsl.func` to call it from a kernel",
        )
    if callable(obj) and name:
        instead = _INSTEAD.get(
            name, "use the functions of kdsl (kdsl.exp, kdsl.sqrt, ...), or write the loop"
        )
        return f"`{name}` has no meaning in a kernel", instead
    return (
        f"a `{type(obj).__name__}` of the enclosing scope cannot be used",
        "capture numbers, tuples of numbers, types and kernels; pass the rest as arguments",
    )
