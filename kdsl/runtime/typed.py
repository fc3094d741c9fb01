"""A kernel's signature and sizes from words, not from a call: `x=f32[:,:]`, `T=f64`, `BLOCK=64`, `M=1024`."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdsl.dtypes import ALL, ArrayType, DType, Size, TypeVar, by_name, constexpr, i64
from kdsl.errors import ArgumentError, KdslError
from kdsl.frontend_ast.signature import Arg, ArrayArg, ConstArg, ScalarArg, Signature
from kdsl.frontend_ast.source import MISSING, KernelSource, ParamSpec
from kdsl.ir.faults import condition_error
from kdsl.ir.nodes import ArrayParam, Body, Const, Expr, Func, Param
from kdsl.ir.walk import map_stmt, substitute
from kdsl.passes.simplify import simplify_expr

_ARRAY = re.compile(r"(\w+)\[\s*(:(?:\s*,\s*:)*)?\s*\]")


def signature_of(source: KernelSource, given: Mapping[str, str]) -> Signature:
    """The signature for contiguous arrays of the annotated types, where `given` types what they leave open.

    `given` maps the name of a parameter or of a type variable to a type (`f32`, `f32[:,:]`) or, for a
    constexpr parameter, to its value.
    """
    variables = _type_variables(source)
    open_ = {p.name for p in source.params if p.annotation is None or p.annotation is constexpr}
    for name in given:
        if name not in open_ and name not in variables:
            raise _unknown(source, name, sorted(open_ | set(variables)))
    bound = {name: _bound(source, var, given.get(name)) for name, (var, _) in variables.items()}
    return tuple([_arg(source, p, given.get(p.name), bound) for p in source.params])


def _type_variables(source: KernelSource) -> dict[str, tuple[TypeVar, ParamSpec]]:
    out: dict[str, tuple[TypeVar, ParamSpec]] = {}
    for p in source.params:
        element = p.annotation.dtype if isinstance(p.annotation, ArrayType) else p.annotation
        if isinstance(element, TypeVar):
            out.setdefault(element.name, (element, p))
    return out


def _unknown(source: KernelSource, name: str, open_: list[str]) -> KdslError:
    typed = any(p.name == name for p in source.params)
    near = difflib.get_close_matches(name, open_, 1)
    names = ", ".join(f"`{n}`" for n in open_)
    return KdslError(
        "K0710",
        f"`{name}` of {source.name} has its type already"
        if typed
        else f"{source.name} has no `{name}` to be typed",
        loc=source.loc,
        label=f"what is open: {names}" if open_ else "its annotations leave nothing open",
        help=f"did you mean `{near[0]}`?" if near and not typed else "leave it out",
    )


def _bound(source: KernelSource, var: TypeVar, text: str | None) -> DType:
    if text is None and len(var.choices) == 1:
        return var.choices[0]
    if text is None:
        _, p = _type_variables(source)[var.name]
        raise KdslError(
            "K0711",
            f"the type {var.name} of {source.name} is open",
            loc=p.loc,
            label=f"{var.name} is one of {', '.join(map(str, var.choices))}",
            help=f"choose one: --arg {var.name}={var.choices[0]}",
        )
    dtype = _dtype(var.name, text)
    if dtype not in var.choices:
        raise KdslError(
            "K0710",
            f"{var.name} of {source.name} cannot be {dtype}",
            notes=[f"it is one of {', '.join(map(str, var.choices))}"],
            help=f"write --arg {var.name}={var.choices[0]}",
        )
    return dtype


def _dtype(name: str, text: str) -> DType:
    try:
        return by_name(text)
    except KeyError:
        near = difflib.get_close_matches(text, [t.name for t in ALL], 1)
        raise KdslError(
            "K0710",
            f"`{text}` is no type",
            notes=[f"the types are {', '.join(t.name for t in ALL)}"],
            help=f"write --arg {name}={near[0] if near else 'f32'}",
        ) from None


def _arg(source: KernelSource, p: ParamSpec, text: str | None, bound: Mapping[str, DType]) -> Arg:
    match p.annotation:
        case ArrayType(dtype=dtype, shape=shape):
            return ArrayArg(bound[dtype.name] if isinstance(dtype, TypeVar) else dtype, len(shape))
        case TypeVar() as var:
            return ScalarArg(bound[var.name])
        case DType() as dtype:
            return ScalarArg(dtype)
        case _ if p.annotation is constexpr:
            return ConstArg(_constant(source, p, text))
    if text is None:
        raise KdslError(
            "K0711",
            f"the type of argument `{p.name}` of {source.name} is open",
            loc=p.loc,
            label="it would take its type from a call",
            help=f"annotate it, or write --arg {p.name}=f32[:,:] (an array) or --arg {p.name}=f32 (a scalar)",
        )
    array = _ARRAY.fullmatch(text.strip())
    if array is None:
        return ScalarArg(_dtype(p.name, text.strip()))
    return ArrayArg(_dtype(p.name, array[1]), array[2].count(":") if array[2] else 0)


def _constant(source: KernelSource, p: ParamSpec, text: str | None) -> object:
    if text is None:
        if p.default is not MISSING:
            return p.default
        raise KdslError(
            "K0711",
            f"the constexpr argument `{p.name}` of {source.name} has no value",
            loc=p.loc,
            help=f"give it one: --arg {p.name}=64",
        )
    try:
        value: Any = ast.literal_eval(text)
        hash(value)
    except (ValueError, SyntaxError, TypeError):
        raise KdslError(
            "K0710",
            f"`{text}` is no value for the constexpr argument `{p.name}` of {source.name}",
            loc=p.loc,
            help="write a number, a string in quotes, or a tuple of them",
        ) from None
    return value


# ------------------------------------------------------------------------ sizes


def known_sizes(func: Func, given: Mapping[str, int], *, all: bool = False) -> dict[str, int]:
    """`given`, if these are sizes of `func`; with `all`, each of them must be there."""
    names = ", ".join(f"`{s}`" for s in func.sizes) or "none"
    for name in given:
        if name not in func.sizes:
            raise KdslError(
                "K0712",
                f"`{name}` is no size of {func.name}",
                notes=[f"its sizes are {names}"],
                help="name its sizes alone",
            )
    missing = [s for s in func.sizes if s not in given]
    if all and missing:
        wanted = ",".join(f"{s}={given.get(s, 1024)}" for s in func.sizes)
        raise KdslError(
            "K0712",
            f"the size `{missing[0]}` of {func.name} is missing",
            notes=[f"its sizes are {names}"],
            help=f"write --size {wanted}",
        )
    return dict(given)


def fixed(func: Func, sizes: Mapping[str, int]) -> Func:
    """`func` for these values of some of its sizes, which are no sizes of it any more.

    ArgumentError when one of its call conditions does not hold for them.
    """
    values: dict[str, Expr] = {name: Const(value, i64) for name, value in sizes.items()}

    def on_expr(e: Expr) -> Expr:
        return substitute(e, values)

    def on_body(body: Body) -> Body:
        return tuple([map_stmt(s, on_expr, on_body) for s in body])

    conditions = tuple([replace(c, expr=on_expr(c.expr)) for c in func.conditions])
    return decided(
        replace(
            func,
            params=tuple([_fixed_param(p, sizes) for p in func.params]),
            body=on_body(func.body),
            sizes=tuple([s for s in func.sizes if s not in sizes]),
            conditions=conditions,
        ),
        sizes,
    )


def decided(func: Func, sizes: Mapping[str, int]) -> Func:
    """`func` without conditions that hold; ArgumentError for one that never holds: `sizes` are fixed."""
    left = []
    for c in func.conditions:
        expr = simplify_expr(c.expr)
        if isinstance(expr, Const):
            if not expr.value:
                raise condition_error(c.title, c.loc, sizes)
            continue
        left.append(replace(c, expr=expr))
    return replace(func, conditions=tuple(left))


def _fixed_param(p: Param, sizes: Mapping[str, int]) -> Param:
    if not isinstance(p, ArrayParam):
        return p
    shape = tuple([_fixed_size(extent, sizes) for extent in p.shape])
    for extent in shape:
        if not extent.terms and extent.const < 0:
            raise ArgumentError(
                "K0406", f"an extent of `{p.name}` would be {extent}", loc=p.loc, help="fix larger sizes"
            )
    return replace(p, shape=shape)


def _fixed_size(extent: Size, sizes: Mapping[str, int]) -> Size:
    out = Size({}, extent.const)
    for symbol, coefficient in extent.terms.items():
        out += Size({}, coefficient * sizes[symbol]) if symbol in sizes else Size({symbol: coefficient})
    return out
