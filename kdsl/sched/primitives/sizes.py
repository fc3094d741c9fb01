"""Primitives about sizes: assume, specialize; conditions as the user writes them.

A condition is Python text over sizes and scalar parameters: `"N % 64 == 0"`, `"M < N and K >= 8"`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace

from kdsl.analysis.values import SIZE_MAX
from kdsl.dtypes import DType, bool_, i64
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import (
    Binary,
    BinaryOp,
    Body,
    Cast,
    Compare,
    CompareOp,
    Condition,
    Const,
    Expr,
    If,
    Logic,
    ScalarParam,
    Unary,
    Var,
    fresh_id,
)
from kdsl.ir.walk import substitute
from kdsl.passes.simplify import simplify_body
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.ranges import add_conditions
from kdsl.sched.rewriting.tree import map_exprs, with_fresh_ids
from kdsl.source import syntax_tree


@primitive
def assume(edit: Edit, cond: str) -> Edit:
    """A fact on sizes and scalars that later steps rely on; each call checks it.

    before:
        for i_o in range((N + 63) // 64):
            for i_i in range(64):
                if i_o * 64 + i_i < N:
                    S(i_o * 64 + i_i)
    after: assume("N % 64 == 0"), then split("i", 64)
        for i_o in range(N // 64):
            for i_i in range(64):
                S(i_o * 64 + i_i)

    legal: always; a call that does not meet it raises ArgumentError.
    known as: assume, assert_eq, add_assertion (Exo).
    """
    test = _condition(edit, cond)
    return edit.keeps_order(
        add_conditions(edit.func, (Condition(test, f"the schedule assumes {cond}", loc=edit.func.loc),))
    )


@primitive
def specialize(edit: Edit, cond: str) -> Edit:
    """A version of the kernel for calls that meet a condition on sizes and scalars.

    before:
        for i in range(N):
            S(i)
    after: specialize("N == 64")
        if N == 64:
            for i in range(64):
                S(i)
        else:
            for i in range(N):
                S(i)

    The loops of both versions share their names; those of the special version come first (`"i@0"`).

    legal: always.
    known as: specialize (Halide, Exo), loop versioning.
    """
    test = _condition(edit, cond)
    special = with_fresh_ids(edit.func.body)
    known = _equalities(test)
    if known:
        special = simplify_body(map_exprs(special, lambda e: substitute(e, known)))
    chosen = If(test, special, edit.func.body, id=fresh_id(), loc=edit.func.loc)
    body: Body = (chosen,)
    return edit.keeps_order(replace(edit.func, body=body))


def _equalities(test: Expr) -> dict[str, Expr]:
    """The sizes that the condition fixes."""
    match test:
        case Logic(op="and", a=a, b=b):
            return _equalities(a) | _equalities(b)
        case (Compare(op="==", a=Var(name=name, type=t), b=Const() as value)) | (
            Compare(op="==", a=Const() as value, b=Var(name=name, type=t))
        ) if t == i64:
            return {name: value}
        case _:
            return {}


# ---------------------------------------------------------------------- conditions

_ARITHMETIC: dict[type[ast.operator], BinaryOp] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
_COMPARISONS: dict[type[ast.cmpop], CompareOp] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


def _condition(edit: Edit, text: str) -> Expr:
    """The bool_ expression that `text` means."""
    try:
        tree = syntax_tree(text, "eval").body
    except (SyntaxError, ValueError):
        raise edit.refused(
            "K0324",
            f'"{text}" is no condition',
            help='write a Python comparison of sizes, as in "N % 64 == 0"',
        ) from None
    return _Reader(edit, text).truth(tree)


@dataclass(frozen=True, slots=True)
class _Number:
    """An expression and an interval of Python integers that holds it."""

    expr: Expr
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class _Reader:
    edit: Edit
    text: str

    def refused(self, why: str, help: str) -> ScheduleError:
        return self.edit.refused("K0324", f'cannot use the condition "{self.text}": {why}', help=help)

    def truth(self, node: ast.expr) -> Expr:
        match node:
            case ast.BoolOp(op=op, values=values):
                out = self.truth(values[0])
                for v in values[1:]:
                    out = Logic("and" if isinstance(op, ast.And) else "or", out, self.truth(v))
                return out
            case ast.UnaryOp(op=ast.Not(), operand=x):
                return Unary("not", self.truth(x))
            case ast.Compare(left=left, ops=ops, comparators=others):
                parts = [left, *others]
                tests = [self.compare(a, op, b) for a, op, b in zip(parts, ops, others)]
                out = tests[0]
                for t in tests[1:]:
                    out = Logic("and", out, t)
                return out
            case ast.Name(id=name) if self.scalars().get(name) == bool_:
                return Var(name, bool_)
            case _:
                raise self.refused(
                    f"`{ast.unparse(node)}` is no comparison",
                    'combine comparisons of sizes and numbers by and, or, not, as in "N % 64 == 0"',
                )

    def scalars(self) -> dict[str, DType]:
        return {p.name: p.dtype for p in self.edit.func.params if isinstance(p, ScalarParam)}

    def compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Expr:
        if type(op) not in _COMPARISONS:
            raise self.refused("only == != < <= > >= compare", "use one of these")
        a, b = self.number(left), self.number(right)
        return Compare(_COMPARISONS[type(op)], a.expr, b.expr)

    def number(self, node: ast.expr) -> _Number:
        match node:
            case ast.Constant(value=int(value)) if not isinstance(value, bool):
                return self.fitting(
                    _Number(Const(value, i64) if abs(value) < 1 << 62 else Const(0, i64), value, value)
                )
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
                return self.fitting(_Number(Const(-value if value < 1 << 62 else 0, i64), -value, -value))
            case ast.Name(id=name):
                return self.name(name)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self.arithmetic(_ARITHMETIC[type(op)], self.number(left), self.number(right))
            case _:
                raise self.refused(
                    f"`{ast.unparse(node)}` is neither a size, an integer nor arithmetic on them",
                    "use sizes, integer scalars, integers and + - * // %",
                )

    def name(self, name: str) -> _Number:
        if name in self.edit.func.sizes:
            return _Number(Var(name, i64), 0, SIZE_MAX)
        dtype = self.scalars().get(name)
        if dtype is None or not dtype.is_int or dtype.max > i64.max:
            known = [*self.edit.func.sizes, *[n for n, t in self.scalars().items() if t.is_int]]
            raise self.refused(
                f"`{name}` is no size and no signed integer scalar",
                f"the kernel has {', '.join(f'`{k}`' for k in known)}"
                if known
                else "this kernel has no sizes",
            )
        value: Expr = Var(name, dtype)
        return _Number(value if dtype == i64 else Cast(value, i64), int(dtype.min), int(dtype.max))

    def arithmetic(self, op: BinaryOp, a: _Number, b: _Number) -> _Number:
        out = Binary(op, a.expr, b.expr)
        match op:
            case "+":
                return self.fitting(_Number(out, a.lo + b.lo, a.hi + b.hi))
            case "-":
                return self.fitting(_Number(out, a.lo - b.hi, a.hi - b.lo))
            case "*":
                ends = (a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi)
                return self.fitting(_Number(out, min(ends), max(ends)))
            case _:
                if b.lo != b.hi or b.lo <= 0:
                    raise self.refused(f"`{op}` needs a positive number on its right", "divide by a constant")
                if op == "%":
                    return _Number(out, 0, b.lo - 1)
                return _Number(out, a.lo // b.lo, a.hi // b.lo)

    def fitting(self, n: _Number) -> _Number:
        if n.lo < i64.min or n.hi > i64.max:
            raise self.refused("it could exceed 64 bits", "compare sizes one by one instead of their product")
        return n
