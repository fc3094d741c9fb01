"""Expressions of a host program as Python functions: `(N + 63) // 64` with N = 1000 is 16.

    evaluator(e, ("M", "N"))      ->      lambda v0, v1: (v1 + 63) // 64

Such an expression reads no memory. The function is made once and is as fast as Python can be: sums of sizes
are written as they are, where their ranges show that 64 bits hold them; else they wrap, as in the IR.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kdsl.dtypes import DType, i64
from kdsl.ir import scalar_ops
from kdsl.ir.nodes import (
    Binary,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Logic,
    Select,
    Unary,
    Var,
)
from kdsl.ir.numbers import wrap
from kdsl.ir.parser_exprs import ExprParser
from kdsl.ir.walk import subexprs

SIZE = (0, (1 << 47) - 1)
"""The range of a size."""

Range = tuple[int, int]


def evaluator(e: Expr, names: Sequence[str], ranges: Mapping[str, Range] | None = None) -> Callable[..., Any]:
    """A function of the values of `names`, in their order, that computes `e`.

    `ranges` gives the range of names where it is known (`SIZE` for a size); others have that of their dtype.
    Values are Python numbers. ZeroDivisionError where an integer is divided by 0.
    """
    made = _Source({n: f"v{k}" for k, n in enumerate(names)}, ranges or {})
    text = made.expr(e)[0]
    parameters = ", ".join(made.names.values())
    return eval(f"lambda {parameters}: {text}", made.values)  # type: ignore[no-any-return]


def parse_host(text: str, dtypes: Mapping[str, DType], dtype: DType = i64) -> Expr:
    """The expression that the printer wrote, over names of these types; its own is `dtype`."""
    parser = ExprParser(text, "")
    parser.scope.update(dtypes)
    return parser.expr(ast.parse(text, mode="eval").body, dtype)


def is_host(e: Expr, names: frozenset[str]) -> bool:
    """Whether a host can compute `e` from `names` alone: no memory is read, and nothing faults."""
    return all(_is_host(x, names) for x in subexprs(e))


def _is_host(e: Expr, names: frozenset[str]) -> bool:
    match e:
        case Var():
            return e.name in names
        case Binary(op="//" | "%", b=by) if e.dtype.is_int:
            return _positive(by)
        case Const() | Unary() | Binary() | Compare() | Logic() | Select() | Cast():
            return True
        case _:
            return False


def _positive(e: Expr) -> bool:
    match e:
        case Const(value=value):
            return value > 0
        case Binary(op="max", a=a, b=b):
            return _positive(a) or _positive(b)
        case _:
            return False


def _both(a: Range, b: Range, op: Callable[[int, int], int]) -> Range:
    ends = [op(x, y) for x in a for y in b]
    return min(ends), max(ends)


@dataclass(slots=True)
class _Source:
    """Makes Python text. `values` holds what it names besides the parameters."""

    names: dict[str, str]
    ranges: Mapping[str, Range]
    values: dict[str, Any] = field(default_factory=dict)

    def value(self, x: object) -> str:
        name = f"k{len(self.values)}"
        self.values[name] = x
        return name

    def call(self, function: Callable[..., Any], *args: Expr) -> str:
        return f"{self.value(function)}({', '.join([self.expr(a)[0] for a in args])})"

    def whole(self, t: DType) -> Range:
        return (t.min, t.max) if t.is_int else (0, 1)

    def fitted(self, text: str, found: Range, t: DType) -> tuple[str, Range]:
        """An integer result, wrapped where it may not fit."""
        lo, hi = found
        if t.min <= lo and hi <= t.max:
            return text, found
        return f"{self.value(partial(wrap, dtype=t))}({text})", (t.min, t.max)

    def expr(self, e: Expr) -> tuple[str, Range]:
        """The text of `e`, in parentheses where it needs them, and the range of an integer."""
        t = e.dtype
        match e:
            case Const():
                if t.is_float:
                    return self.value(e.value), (0, 1)
                return f"({e.value})", (int(e.value), int(e.value))
            case Var():
                return self.names[e.name], self.ranges.get(e.name, self.whole(t))
            case Unary(op="-") if t.is_int:
                text, (lo, hi) = self.expr(e.x)
                return self.fitted(f"(-{text})", (-hi, -lo), t)
            case Unary():
                return self.call(scalar_ops.unary(e.op, t), e.x), self.whole(t)
            case Binary():
                return self.binary(e, t)
            case Compare():
                return f"({self.expr(e.a)[0]} {e.op} {self.expr(e.b)[0]})", (0, 1)
            case Logic():
                return f"({self.expr(e.a)[0]} {e.op} {self.expr(e.b)[0]})", (0, 1)
            case Select():
                (a, (alo, ahi)), (b, (blo, bhi)) = self.expr(e.a), self.expr(e.b)
                return f"({a} if {self.expr(e.cond)[0]} else {b})", (min(alo, blo), max(ahi, bhi))
            case Cast():
                source = e.x.dtype
                if source.is_int and t.is_int:
                    return self.fitted(*self.expr(e.x), t)
                return self.call(scalar_ops.cast(source, t), e.x), self.whole(t)
            case Call():
                return self.call(scalar_ops.function(e.fn, e.args[0].dtype), *e.args), self.whole(t)
            case _:
                raise AssertionError(f"no expression of a host: {type(e).__name__}")

    def binary(self, e: Binary, t: DType) -> tuple[str, Range]:
        if not t.is_int:
            return self.call(scalar_ops.binary(e.op, t), e.a, e.b), (0, 1)
        if e.op in ("&", "|", "^", "<<", ">>"):
            return self.call(scalar_ops.binary(e.op, t), e.a, e.b), self.whole(t)
        (a, x), (b, y) = self.expr(e.a), self.expr(e.b)
        match e.op:
            case "min":
                return f"min({a}, {b})", (min(x[0], y[0]), min(x[1], y[1]))
            case "max":
                return f"max({a}, {b})", (max(x[0], y[0]), max(x[1], y[1]))
            case "%":
                return f"({a} % {b})", (0, y[1] - 1) if y[0] > 0 else self.whole(t)
            case "//":
                found = _both(x, y, lambda p, q: p // q) if y[0] > 0 else (t.min, t.max + 1)
                return self.fitted(f"({a} // {b})", found, t)
            case "+":
                return self.fitted(f"({a} + {b})", (x[0] + y[0], x[1] + y[1]), t)
            case "-":
                return self.fitted(f"({a} - {b})", (x[0] - y[1], x[1] - y[0]), t)
            case "*":
                return self.fitted(f"({a} * {b})", _both(x, y, lambda p, q: p * q), t)
            case _:
                raise AssertionError(f"unknown operator {e.op!r} for {t}")
