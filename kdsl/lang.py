"""The language's own functions, as plain Python: what they mean outside a kernel and in `kernel.py(...)`.

They take NumPy scalars and arrays and keep their types as NumPy does (f32 in, f32 out); Python numbers
give Python numbers. Inside a compiled kernel each stands for the function of the same name there.
"""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from kdsl.dtypes import DType, f64, from_numpy, u64
from kdsl.ir.builtins import TABLE

inf = math.inf
nan = math.nan

F = TypeVar("F", bound=Callable[..., Any])


def _of_language(function: F) -> F:
    """Marks a function as the language's own, known to the front end by its name."""
    function.__kdsl_builtin__ = function.__name__  # type: ignore[attr-defined]
    return function


def _is_python(x: Any) -> bool:
    return isinstance(x, (bool, int, float)) and not isinstance(x, np.generic)


def _plain(result: Any, *args: Any) -> Any:
    """A Python number where all arguments are Python numbers."""
    return result.item() if isinstance(result, np.generic) and all(map(_is_python, args)) else result


def _numpy_function(name: str) -> Callable[..., Any]:
    apply = getattr(np, TABLE[name].numpy)

    def function(*args: Any) -> Any:
        if len(args) != TABLE[name].arity:
            raise TypeError(f"kdsl.{name} takes {TABLE[name].arity} arguments, not {len(args)}")
        with np.errstate(all="ignore"):
            return _plain(apply(*args), *args)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"As `numpy.{TABLE[name].numpy}`."
    return _of_language(function)


exp = _numpy_function("exp")
exp2 = _numpy_function("exp2")
expm1 = _numpy_function("expm1")
log = _numpy_function("log")
log2 = _numpy_function("log2")
log10 = _numpy_function("log10")
log1p = _numpy_function("log1p")
sin = _numpy_function("sin")
cos = _numpy_function("cos")
tan = _numpy_function("tan")
asin = _numpy_function("asin")
acos = _numpy_function("acos")
atan = _numpy_function("atan")
atan2 = _numpy_function("atan2")
sinh = _numpy_function("sinh")
cosh = _numpy_function("cosh")
tanh = _numpy_function("tanh")
cbrt = _numpy_function("cbrt")
hypot = _numpy_function("hypot")
pow = _numpy_function("pow")
sqrt = _numpy_function("sqrt")
floor = _numpy_function("floor")
ceil = _numpy_function("ceil")
trunc = _numpy_function("trunc")
round = _numpy_function("round")
abs = _numpy_function("abs")
copysign = _numpy_function("copysign")
fmod = _numpy_function("fmod")
isnan = _numpy_function("isnan")
isinf = _numpy_function("isinf")
isfinite = _numpy_function("isfinite")
minimum = _numpy_function("minimum")
maximum = _numpy_function("maximum")


def _float_type(*args: Any) -> np.dtype[Any]:
    """The dtype in which NumPy evaluates a function of these arguments in floats."""
    return np.asarray(np.exp(np.result_type(*args).type(0))).dtype


def _elementwise(one: Callable[..., float], *args: Any) -> Any:
    """`one`, a function of Python floats, on scalars or arrays, in their float type."""
    if all(map(_is_python, args)):
        return one(*map(float, args))
    arrays = np.broadcast_arrays(*args)
    out = np.empty(arrays[0].shape, _float_type(*args))
    with np.errstate(all="ignore"):
        for at in np.ndindex(out.shape):
            out[at] = one(*[float(a[at]) for a in arrays])
    return out[()]


@_of_language
def erf(x: Any) -> Any:
    """The error function."""
    return _elementwise(math.erf, x)


@_of_language
def rsqrt(x: Any) -> Any:
    """`1 / sqrt(x)`."""
    with np.errstate(all="ignore"):
        return _plain(1 / np.sqrt(x), x)


@_of_language
def fma(a: Any, b: Any, c: Any) -> Any:
    """`a * b + c` with one rounding."""
    from kdsl.ir.scalar_ops import function

    python = all(map(_is_python, (a, b, c)))
    dtype = f64 if python else from_numpy(_float_type(a, b, c))
    assert dtype is not None
    return _elementwise(function("fma", dtype), a, b, c)


@_of_language
def where(cond: Any, a: Any, b: Any) -> Any:
    """`a` where `cond` is true, else `b`: both are evaluated."""
    if _is_python(a) and _is_python(b) and np.ndim(cond) == 0:
        chosen = a if cond else b
        return float(chosen) if isinstance(a, float) or isinstance(b, float) else chosen
    return np.where(cond, a, b)[()]


@_of_language
def bitcast(x: Any, dtype: Any) -> Any:
    """The bits of `x` read as `dtype`, of the same width; Python numbers count as i64 and f64."""
    to = dtype.np if isinstance(dtype, DType) else np.dtype(dtype)
    source = np.asarray(x)
    if source.dtype.itemsize != to.itemsize:
        raise TypeError(f"bitcast: {source.dtype} and {to} differ in width")
    return source.view(to)[()]


# ------------------------------------------------------------------------- loops


@_of_language
def grid(*extents: int) -> Iterator[Any]:
    """All index tuples, the last one fastest; plain indices for a single extent."""
    ranges = [range(int(e)) for e in extents]
    return iter(ranges[0]) if len(ranges) == 1 else itertools.product(*ranges)


@_of_language
def static_range(*args: int) -> range:
    """A `range` over constants; in a compiled kernel the loop is unrolled."""
    return range(*args)


# ------------------------------------------------------------------ local arrays


def _dtype(dtype: Any) -> np.dtype[Any]:
    return dtype.np if isinstance(dtype, DType) else np.dtype(dtype)


@_of_language
def empty(shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """A local array whose elements have no value yet."""
    return np.empty(shape, _dtype(dtype))


@_of_language
def zeros(shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """A local array of zeros."""
    return np.zeros(shape, _dtype(dtype))


@_of_language
def full(shape: Any, value: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """A local array with one value everywhere."""
    return np.full(shape, value, _dtype(dtype))


# ----------------------------------------------------------------------- atomics


@_of_language
def atomic_add(array: Any, index: Any, value: Any) -> Any:
    """`array[index] += value` in one piece; gives the old element."""
    old = array[index]
    with np.errstate(all="ignore"):
        array[index] = array.dtype.type(old + array.dtype.type(value))
    return old


@_of_language
def atomic_min(array: Any, index: Any, value: Any) -> Any:
    """`array[index] = min(array[index], value)` in one piece; gives the old element."""
    old = array[index]
    array[index] = builtins.min(old, array.dtype.type(value))
    return old


@_of_language
def atomic_max(array: Any, index: Any, value: Any) -> Any:
    """`array[index] = max(array[index], value)` in one piece; gives the old element."""
    old = array[index]
    array[index] = builtins.max(old, array.dtype.type(value))
    return old


# ---------------------------------------------------------------- random numbers

_generators: dict[str, Callable[[Any, Any], Any]] = {}


def provide_generators(random_bits: Callable[[Any, Any], Any], uniform: Callable[[Any, Any], Any]) -> None:
    """Installs the definitions of the counter-based generator, as functions of two u64 scalars."""
    _generators.update(random_bits=random_bits, uniform=uniform)


def _generated(name: str, seed: Any, i: Any) -> Any:
    definition = _generators[name]
    seeds, counters = np.broadcast_arrays(_as_u64(seed), _as_u64(i))
    with np.errstate(all="ignore"):
        values = [definition(seeds[at], counters[at]) for at in np.ndindex(seeds.shape)]
    dtype = np.uint32 if name == "random_bits" else np.float32
    return np.array(values, dtype).reshape(seeds.shape)[()]


def _as_u64(x: Any) -> Any:
    return u64(x) if isinstance(x, (np.generic, np.ndarray)) else np.asarray(int(x) & u64.max, np.uint64)


@_of_language
def random_bits(seed: Any, i: Any) -> Any:
    """32 random bits (u32) that depend on `seed` and the counter `i` alone."""
    return _generated("random_bits", seed, i)


@_of_language
def uniform(seed: Any, i: Any) -> Any:
    """A random f32 in [0, 1) that depends on `seed` and the counter `i` alone."""
    return _generated("uniform", seed, i)


__all__ = [
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "atomic_add",
    "atomic_max",
    "atomic_min",
    "bitcast",
    "cbrt",
    "ceil",
    "copysign",
    "cos",
    "cosh",
    "empty",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "fma",
    "fmod",
    "full",
    "grid",
    "hypot",
    "inf",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log1p",
    "log2",
    "log10",
    "maximum",
    "minimum",
    "nan",
    "pow",
    "random_bits",
    "round",
    "rsqrt",
    "sin",
    "sinh",
    "sqrt",
    "static_range",
    "tan",
    "tanh",
    "trunc",
    "uniform",
    "where",
    "zeros",
]
