"""Runs a plain Python function as the front end sees it: build, verify, interpret, compare with Python."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

from kdsl.dtypes import ArrayType, DType, Size, TypeVar, constexpr, from_numpy
from kdsl.frontend_ast import Arg, ArrayArg, ConstArg, KernelSource, ScalarArg, build
from kdsl.ir import interpreter
from kdsl.ir.binding import Bind, binding_plan
from kdsl.ir.nodes import ArrayParam, Func, Options
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify


class Fake:
    """What the decorators make, as far as the front end looks at it; calling it runs Python."""

    def __init__(self, fn: Callable[..., Any], kind: Any) -> None:
        self.__kdsl_source__ = KernelSource(fn, kind)
        self.fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return python(self.__kdsl_source__, list(args), kwargs)


def kernel(fn: Callable[..., Any]) -> Fake:
    return Fake(fn, "kernel")


def func(fn: Callable[..., Any]) -> Fake:
    return Fake(fn, "func")


def arg_of(value: Any, annotation: Any) -> Arg:
    """The signature entry of a value."""
    if annotation is constexpr:
        return ConstArg(value)
    if isinstance(value, np.ndarray):
        dtype = from_numpy(value.dtype)
        assert dtype is not None
        return ArrayArg(dtype, value.ndim, bool(value.flags.c_contiguous))
    if isinstance(annotation, DType):
        return ScalarArg(annotation)
    dtype = from_numpy(np.asarray(value).dtype)
    assert dtype is not None
    return ScalarArg(dtype, weak=not isinstance(value, np.generic))


def func_of(fn: Any, *args: Any, options: Options | None = None) -> Func:
    """The verified IR for these arguments."""
    source = fn.__kdsl_source__ if isinstance(fn, Fake) else KernelSource(fn, options=options)
    signature = tuple(arg_of(a, p.annotation) for a, p in zip(args, source.params, strict=True))
    f = build(source, signature)
    verify(f)
    return f


def text(fn: Any, *args: Any, options: Options | None = None) -> str:
    """The printed IR, without its first line and indentation."""
    lines = print_func(func_of(fn, *args, options=options)).splitlines()[1:]
    return "\n".join(line[4:] for line in lines) + "\n"


def sizes_of(params: Any, names: tuple[str, ...], arrays: dict[str, Any]) -> dict[str, int]:
    """The size symbols that the arrays' shapes give."""
    sizes: dict[str, int] = {}
    for step in binding_plan(params, names).steps:
        if isinstance(step, Bind):
            extent = arrays[params[step.param].name].shape[step.dim]
            sizes[step.size] = (extent - step.rest.evaluate(sizes)) // step.coefficient
    return sizes


def interpreted(fn: Any, *args: Any, on_print: Any = None) -> Any:
    """Runs the IR on the arguments (arrays in place) and gives the results."""
    f = func_of(fn, *args)
    source = fn.__kdsl_source__ if isinstance(fn, Fake) else KernelSource(fn)
    values = [a for a, p in zip(args, source.params) if p.annotation is not constexpr]
    inputs = [p for p in f.params if not (isinstance(p, ArrayParam) and p.result)]
    arrays = {p.name: v for p, v in zip(inputs, values) if isinstance(p, ArrayParam)}
    scalars = {p.name: v for p, v in zip(inputs, values) if not isinstance(p, ArrayParam)}
    sizes = sizes_of(f.params, f.sizes, arrays)
    out = []
    for p in f.results:
        arrays[p.name] = np.zeros(tuple(d.evaluate(sizes) for d in p.shape), p.dtype.np)
        out.append(arrays[p.name])
    with np.errstate(all="ignore"):
        interpreter.run(f, arrays, scalars, sizes, on_print=on_print)
    values = [o[()] for o in out]
    return (
        None
        if not values
        else values[0]
        if len(values) == 1 and not isinstance(source.returns, tuple)
        else tuple(values)
    )


def python(source: KernelSource, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Runs the body as Python, size symbols and type variables replaced by what the arguments give."""
    by_name = dict(zip([p.name for p in source.params], args)) | kwargs
    values: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for p in source.params:
        v = by_name.get(p.name, p.default)
        if isinstance(p.annotation, DType):
            v = p.annotation(v)
        if isinstance(p.annotation, ArrayType):
            for dim, extent in zip(p.annotation.shape, v.shape):
                if len(dim.terms) == 1:
                    ((symbol, coefficient),) = dim.terms.items()
                    sizes.setdefault(symbol, (extent - dim.const) // coefficient)
        element = p.annotation.dtype if isinstance(p.annotation, ArrayType) else p.annotation
        if isinstance(element, TypeVar):
            values.setdefault(element.name, from_numpy(np.asarray(v).dtype))
        by_name[p.name] = v

    def real(x: Any) -> Any:
        if isinstance(x, Size):
            return x.evaluate(sizes) if all(s in sizes for s in x.terms) else x
        if isinstance(x, TypeVar):
            return values.get(x.name, x)
        return x

    fn = source.fn
    cells = tuple(types.CellType(real(c.cell_contents)) for c in fn.__closure__ or ())
    overlay = {k: real(v) for k, v in fn.__globals__.items()}
    twin = types.FunctionType(fn.__code__, overlay, fn.__name__, fn.__defaults__, cells)
    with np.errstate(all="ignore"):
        return twin(*[by_name[p.name] for p in source.params])


def check(fn: Any, *args: Any) -> None:
    """The interpreter and Python leave the same arrays and give the same results, bit for bit."""
    source = fn.__kdsl_source__ if isinstance(fn, Fake) else KernelSource(fn)
    mine = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    theirs = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    got = interpreted(fn, *mine)
    want = python(source, theirs, {})
    for p, a, b in zip(source.params, mine, theirs):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(
                a, b, err_msg=f"argument {p.name}\n{print_func(func_of(fn, *args))}"
            )
    gots = got if isinstance(got, tuple) else () if got is None else (got,)
    wants = want if isinstance(want, tuple) else () if want is None else (want,)
    assert len(gots) == len(wants)
    for n, (a, b) in enumerate(zip(gots, wants)):
        np.testing.assert_array_equal(a, b, err_msg=f"result {n}")
