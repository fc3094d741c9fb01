"""An argument as a number of the annotated type, and what a call binds type variables to."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdsl.dtypes import DType, TypeVar, bool_, f64, from_numpy, i64
from kdsl.errors import ArgumentError
from kdsl.frontend_ast.signature import ScalarArg
from kdsl.frontend_ast.source import KernelSource, ParamSpec
from kdsl.runtime.arrays import as_array, numpy_text, type_name

Bound = dict[str, tuple[DType, ParamSpec]]
"""The type that each type variable stands for in a call, and the parameter that said so."""


def bind_typevar(source: KernelSource, p: ParamSpec, var: TypeVar, dtype: DType, bound: Bound) -> None:
    """Notes that `p` makes `var` stand for `dtype`; ArgumentError when it cannot."""
    before = bound.setdefault(var.name, (dtype, p))
    if before[0] != dtype:
        first = before[1]
        raise ArgumentError(
            "K0416",
            f"{var.name} is {before[0]} from {first.name} but {dtype} from {p.name}",
            loc=p.loc,
            help=f"pass both as {numpy_text(before[0])}, or give `{p.name}` a type variable of its own",
        )
    if dtype not in var.choices:
        raise ArgumentError(
            "K0416",
            f"argument `{p.name}` of {source.name} has type {dtype}, which {var.name} does not allow",
            loc=p.loc,
            label=f"{var.name} is one of {', '.join(map(str, var.choices))}",
            help=f"pass `{p.name}.astype({numpy_text(var.choices[0])})`, or add {dtype} to kdsl.typevar",
        )


def _typevar_of_scalar(source: KernelSource, p: ParamSpec, var: TypeVar, number: Any) -> DType:
    """The choice of `var` that an argument list without arrays of that type asks for."""
    if isinstance(number, np.generic):
        dtype = from_numpy(number.dtype)
    else:
        dtype = bool_ if isinstance(number, bool) else i64 if isinstance(number, int) else f64
    if dtype in var.choices:
        assert dtype is not None
        return dtype
    kinds = ("float",) if isinstance(number, (float, np.floating)) else ("int", "uint", "float")
    fitting = [c for c in var.choices if c.kind in kinds]
    if isinstance(number, np.generic) or not fitting:
        raise ArgumentError(
            "K0416",
            f"argument `{p.name}` of {source.name} has type {dtype or type_name(number)}, "
            f"which {var.name} does not allow",
            loc=p.loc,
            label=f"{var.name} is one of {', '.join(map(str, var.choices))}",
            help=f"pass `{numpy_text(var.choices[0])}({p.name})`",
        )
    return max(fitting, key=lambda c: c.bits)


def is_scalar(x: Any) -> bool:
    """Whether an unannotated argument is a number (an array of rank 0 is an array)."""
    return isinstance(x, (bool, int, float, complex, np.generic))


def scalar(source: KernelSource, p: ParamSpec, x: Any, bound: Bound) -> tuple[Any, ScalarArg]:
    """`x` as a NumPy scalar of the type that the parameter has in this call."""
    number = _number(source, p, x)
    match p.annotation:
        case DType():
            return to_scalar(source, p, p.annotation, number), ScalarArg(p.annotation)
        case TypeVar() as var:
            if var.name not in bound:
                bound[var.name] = _typevar_of_scalar(source, p, var, number), p
            dtype = bound[var.name][0]
            return to_scalar(source, p, dtype, number), ScalarArg(dtype)
        case _:
            if isinstance(number, np.generic):
                strong = from_numpy(number.dtype)
                assert strong is not None
                return number, ScalarArg(strong)
            weak = bool_ if isinstance(number, bool) else i64 if isinstance(number, int) else f64
            return to_scalar(source, p, weak, number), ScalarArg(weak, weak=True)


def _number(source: KernelSource, p: ParamSpec, x: Any) -> bool | int | float | np.generic:
    """The number that `x` is: a Python or NumPy scalar, or the element of an array of rank 0."""
    if isinstance(x, (np.ndarray, np.generic)) or hasattr(type(x), "__dlpack__"):
        a: Any = x if isinstance(x, np.generic) else as_array(source, p, x)
        if a.ndim == 0 and from_numpy(a.dtype) is not None:
            number: np.generic = a[()]
            return number
        what = f"an array of shape {a.shape}" if a.ndim else f"a {type_name(x)}"
    elif isinstance(x, (bool, int, float)):
        return x
    else:
        what = f"a {type_name(x)}"
    raise ArgumentError(
        "K0408",
        f"argument `{p.name}` of {source.name} is {what}, expected a number",
        loc=p.loc,
        label=f"takes a scalar of type {p.annotation}" if p.annotation is not None else "",
        help=f"pass one element, or annotate `{p.name}` as an array" if "array" in what else "pass a number",
    )


def _int_text(value: int) -> str:
    """An integer of an argument: in full where that can be read."""
    return str(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"


def to_scalar(
    source: KernelSource, p: ParamSpec, dtype: DType, number: bool | int | float | np.generic
) -> Any:
    """`number` as a NumPy scalar of `dtype`; refuses what would lose more than rounding."""
    if dtype.is_int:
        if not isinstance(number, (bool, int, np.bool_, np.integer)):
            raise ArgumentError(
                "K0408",
                f"argument `{p.name}` of {source.name} is the float {number}, expected {dtype}",
                loc=p.loc,
                help=f"pass `int({p.name})`",
            )
        value = int(number)
        if not dtype.min <= value <= dtype.max:
            raise ArgumentError(
                "K0409",
                f"argument `{p.name}` of {source.name} is {_int_text(value)}, which does not fit {dtype}",
                loc=p.loc,
                label=f"{dtype} holds {dtype.min} to {dtype.max}",
                help=f"wrap it yourself: `{p.name} & {(1 << dtype.bits) - 1:#x}`"
                if dtype.kind == "uint"
                else "annotate it with a wider type, or check where the value comes from",
            )
        return dtype.np.type(value)
    try:
        return dtype(number)
    except OverflowError:
        raise ArgumentError(
            "K0409",
            f"argument `{p.name}` of {source.name} is an integer too large for {dtype}",
            loc=p.loc,
            help="pass `float('inf')`, or scale it",
        ) from None
