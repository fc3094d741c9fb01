"""`kernel.py(...)`: the body as ordinary Python on the caller's arrays, with the names it captures bound.

Sizes become the integers of this call, type variables the types, other kernels their `.py`; scalar arguments
and results have their annotated types, arrays are guarded views (see `guarded`). Floating-point warnings are
off, as in compiled code.
"""

from __future__ import annotations

import builtins
import functools
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdsl import lang
from kdsl.dtypes import ArrayType, DType, Size, TypeVar
from kdsl.frontend_ast.signature import ArrayArg, ConstArg, ScalarArg
from kdsl.frontend_ast.source import KernelSource, lookup
from kdsl.ir.binding import binding_plan
from kdsl.ir.params import ArrayParam, Param, ScalarParam
from kdsl.runtime.arguments import Arguments, arguments
from kdsl.runtime.guarded import check_divisor, floordiv, from_end, guarded, mod, rounded
from kdsl.runtime.meaning import CHECK, FLOORDIV, FROM_END, MOD, TYPE, meaning
from kdsl.runtime.sizes import bind_sizes

_LOCAL_ARRAYS = ("empty", "zeros", "full")
_HELPERS = {FROM_END: from_end, FLOORDIV: floordiv, MOD: mod, CHECK: check_divisor}


def run(source: KernelSource, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Runs the function of `source` on these arguments as Python; gives its results."""
    given = arguments(source, args, kwargs)
    scope = _Scope(_sizes(source, given), _types(source, given))
    function = _bound(source, scope)
    values = [
        v.item() if isinstance(a, ScalarArg) and a.weak else guarded(v) if isinstance(a, ArrayArg) else v
        for v, a in zip(given.values, given.signature)
    ]
    first_keyword = len(values) - source.fn.__code__.co_kwonlyargcount
    keywords = {p.name: v for p, v in zip(source.params[first_keyword:], values[first_keyword:])}
    with np.errstate(all="ignore"):
        result = function(*values[:first_keyword], **keywords)
        if isinstance(source.returns, tuple):
            return tuple([scope.result(a, r) for a, r in zip(source.returns, result, strict=True)])
        return scope.result(source.returns, result)


def _sizes(source: KernelSource, given: Arguments) -> dict[str, int]:
    """The size symbols of the annotations, from the arguments' shapes."""
    params: list[Param] = []
    shapes: dict[int, tuple[int, ...]] = {}
    names: dict[str, None] = {}
    for n, (p, a, v) in enumerate(zip(source.params, given.signature, given.values)):
        if isinstance(a, ArrayArg) and isinstance(p.annotation, ArrayType):
            params.append(ArrayParam(p.name, a.dtype, p.annotation.shape, loc=p.loc))
            shapes[n] = v.shape
            names.update(dict.fromkeys(s for dim in p.annotation.shape for s in dim.terms))
        else:
            params.append(ScalarParam(p.name, a.dtype if isinstance(a, ScalarArg) else DType("", "int", 64)))
    plan = binding_plan(tuple(params), tuple(names))
    return bind_sizes(source.name, params, plan, shapes)


def _types(source: KernelSource, given: Arguments) -> dict[str, DType]:
    """What each type variable stands for."""
    out: dict[str, DType] = {}
    for p, a in zip(source.params, given.signature):
        element = p.annotation.dtype if isinstance(p.annotation, ArrayType) else p.annotation
        if isinstance(element, TypeVar) and not isinstance(a, ConstArg):
            out[element.name] = a.dtype
    return out


def _bound(source: KernelSource, scope: _Scope) -> types.FunctionType:
    """The function with its captured names bound for this call."""
    spelled = meaning(source)
    names = {**vars(builtins), **source.fn.__globals__, **_HELPERS}
    for name in spelled.captured:
        try:
            value = lookup(source, name, {})
        except KeyError:
            continue
        names[name] = scope.substitute(value, spelled.attributes)
    for name, annotation in spelled.declared.items():
        names[TYPE + name] = eval(annotation, names)
    return types.FunctionType(spelled.code, names, source.fn.__name__)


@dataclass(frozen=True, slots=True)
class _Scope:
    """What symbols stand for in one call."""

    sizes: Mapping[str, int]
    type_of: Mapping[str, DType]

    def substitute(self, value: Any, attributes: frozenset[str]) -> Any:
        """What a captured object is in the body. `attributes`: what the body looks up in modules."""
        match value:
            case Size():
                return value.evaluate(self.sizes) if value.terms.keys() <= self.sizes.keys() else value
            case TypeVar():
                return self.type_of.get(value.name, value)
            case tuple():
                return tuple([self.substitute(item, attributes) for item in value])
            case types.ModuleType():
                return self._module(value, attributes)
            case _ if getattr(value, "__kdsl_source__", None) is not None:
                return _callee(value)
            case _ if getattr(value, "__kdsl_builtin__", "") in _LOCAL_ARRAYS:
                return _local_array(value)
            case types.BuiltinFunctionType() as built_in if value.__module__ == "math":
                return _MATH.get(built_in.__name__, value)
            case _ if value is np.where:
                return lang.where
            case _ if value is round:
                return rounded
            case _:
                return value

    def _module(self, module: types.ModuleType, attributes: frozenset[str]) -> Any:
        """`module`, or a copy of its names in which those that the body uses are substituted."""
        changed = {}
        for name in attributes & vars(module).keys():
            value = vars(module)[name]
            new = self.substitute(value, attributes) if value is not module else value
            if new is not value:
                changed[name] = new
        if not changed:
            return module
        view = types.ModuleType(module.__name__)
        vars(view).update(vars(module), **changed)
        return view

    def result(self, annotation: Any, value: Any) -> Any:
        """A returned value in its annotated type; arrays are new and plain, as from compiled kernels."""
        if isinstance(annotation, ArrayType):
            dtype = self.substitute(annotation.dtype, frozenset())
            return np.array(value, dtype.np, subok=False, order="C")[()]
        if isinstance(annotation, (DType, TypeVar)):
            return self.substitute(annotation, frozenset())(value)
        return value


def _callee(kernel: Any) -> Any:
    """`kernel.py` as another kernel calls it: resulting arrays are guarded there."""

    @functools.wraps(kernel)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = kernel.py(*args, **kwargs)
        if isinstance(result, tuple):
            return tuple([guarded(r) if isinstance(r, np.ndarray) else r for r in result])
        return guarded(result) if isinstance(result, np.ndarray) else result

    return call


@functools.cache
def _local_array(function: Any) -> Any:
    """`kdsl.empty`, `zeros` or `full`, giving a guarded array."""

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Any:
        return guarded(function(*args, **kwargs))

    return make


# math.floor, ceil and trunc give integers and stay; the others keep the type of a NumPy scalar in a kernel.
_MATH = {
    name: getattr(lang, name)
    for name in lang.__all__
    if name not in ("floor", "ceil", "trunc") and callable(getattr(math, name, None))
} | {"fabs": lang.abs}
