"""Rewrites written as two texts: `rewrite(before, after, [(n, "i_o * 8 + i_i"), ...])`.

Entry m belongs to leaf m of `after`: the leaf of `before` that it comes from, then each of that leaf's loop
variables over the new loops. Without a list, leaf m comes from leaf m and variables keep their names.
"""

from __future__ import annotations

import ast

from kdsl.analysis.dependence import Origin, Unproved, Violation, check_mark, check_rewrite
from kdsl.dtypes import i32, i64
from kdsl.ir.nodes import (
    Alloc,
    Binary,
    BinaryOp,
    Body,
    Cast,
    Const,
    Expr,
    Func,
    If,
    Load,
    Loop,
    Stmt,
    Unary,
    Var,
    While,
)
from kdsl.ir.parser import parse_func
from kdsl.ir.walk import stmt_bodies, stmts

Entry = tuple[int, str]
_OPS: dict[type[ast.operator], BinaryOp] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}


def expr(text: str) -> Expr:
    """An i64 expression over variables and elements of i32 arrays."""

    def build(e: ast.expr) -> Expr:
        match e:
            case ast.Constant(value=int(value)):
                return Const(value, i64)
            case ast.Name(id=name):
                return Var(name, i64)
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                return Cast(Load(name, (build(index),), i32), i64)
            case ast.UnaryOp(operand=x):
                return Unary("-", build(x))
            case ast.BinOp(left=a, op=op, right=b):
                return Binary(_OPS[type(op)], build(a), build(b))
            case _:
                raise AssertionError(ast.dump(e))

    return build(ast.parse(text.strip(), mode="eval").body)


def leaves(func: Func) -> list[Stmt]:
    """The statements without a body, in program order; `while` counts as one, for its test."""
    return [s for s in stmts(func.body) if not isinstance(s, (Loop, If, Alloc))]


def variables(func: Func, wanted: Stmt) -> tuple[str, ...]:
    """The variables of the loops around a statement, outermost first."""

    def find(body: Body, around: tuple[str, ...]) -> tuple[str, ...] | None:
        for s in body:
            if s is wanted:
                return around
            inner = (*around, s.var) if isinstance(s, Loop) else around
            for nested in stmt_bodies(s):
                found = find(nested, inner)
                if found is not None:
                    return found
        return None

    found = find(func.body, ())
    assert found is not None
    return found


def origins(before: Func, after: Func, entries: list[Entry] | None = None) -> dict[int, Origin]:
    old, new = leaves(before), leaves(after)
    if entries is None:
        assert len(old) == len(new)
        entries = [(n, ", ".join(variables(before, s))) for n, s in enumerate(old)]
    assert len(entries) == len(new)
    out = {}
    for s, (n, text) in zip(new, entries):
        names = variables(before, old[n])
        values = [expr(part) for part in text.split(",")] if text else []
        assert len(names) == len(values)
        out[s.id] = Origin(old[n].id, tuple(zip(names, values)))
    return out


def rewrite(before: str, after: str, entries: list[Entry] | None = None) -> Violation | Unproved | None:
    old, new = parse_func(before, "<before>"), parse_func(after, "<after>")
    return check_rewrite(old, new, origins(old, new, entries))


def mark(source: str, var: str, kind: str, lanes: int | None = None) -> Violation | Unproved | None:
    func = parse_func(source, "<before>")
    loop = next(s for s in stmts(func.body) if isinstance(s, Loop) and s.var == var)
    assert kind in ("parallel", "vectorize", "bind")
    return check_mark(func, loop.id, kind, lanes)


__all__ = ["While", "expr", "leaves", "mark", "origins", "rewrite", "variables"]
