"""Local scalars that the host can compute are put where they are used, so that it can count with them.

    n: i64                                  for i in bind(range((N // 2 + 63) // 64), "grid.x"):
    n = N // 2                        ->        ...
    for i in bind(range((n + 63) // 64), "grid.x"):
        ...

Such a scalar is written once, from sizes, scalar parameters and variables of loops, outside of bound loops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kdsl.analysis.axes import axis_of
from kdsl.ir.host import is_host
from kdsl.ir.nodes import Accumulate, Alloc, Atomic, Body, Expr, Func, Load, Loop, ScalarParam, Stmt, Store
from kdsl.ir.walk import map_expr_children, map_stmt, stmt_exprs, stmts, subexprs


def host_scalars(func: Func) -> Func:
    """`func` without such scalars; itself when there are none."""
    names = {p.name for p in func.params if isinstance(p, ScalarParam)} | set(func.sizes)
    body = _body(func.body, frozenset(names))
    return func if body is func.body else replace(func, body=body)


def _body(body: Body, names: frozenset[str]) -> Body:
    done = 0
    while done < len(body):
        s = body[done]
        done += 1
        if isinstance(s, Store) and not s.index and not s.value.dtype.is_float and is_host(s.value, names):
            made = [n for n, a in enumerate(body[:done]) if isinstance(a, Alloc) and a.name == s.buffer]
            if made and _only(body, s):
                rest = with_value(body[done:], s.buffer, s.value)
                body = (*body[: made[0]], *body[made[0] + 1 : done - 1], *rest)
                done -= 2
    return _same(body, tuple([_stmt(s, names) for s in body]))


def _stmt(s: Stmt, names: frozenset[str]) -> Stmt:
    if axis_of(s):
        return s
    inside = names | {s.var} if isinstance(s, Loop) else names
    return map_stmt(s, lambda e: e, lambda b: _body(b, inside))


def _only(body: Body, store: Store) -> bool:
    """Whether `store` is the only statement of `body` that writes its buffer, and comes before all reads."""
    name = store.buffer
    before = True
    for s in stmts(body):
        if s is store:
            before = False
        elif isinstance(s, (Store, Accumulate, Atomic)) and name in (s.buffer, getattr(s, "old", "")):
            return False
        if before and any(
            isinstance(x, Load) and x.buffer == name for e in stmt_exprs(s) for x in subexprs(e)
        ):
            return False
    return True


def with_value(body: Body, scalar: str, value: Expr) -> Body:
    """`body` with `value` in the place of a local scalar."""

    def on_expr(e: Expr) -> Expr:
        if isinstance(e, Load) and e.buffer == scalar:
            return value
        return map_expr_children(e, on_expr)

    return mapped(body, on_expr)


def mapped(body: Body, on_expr: Callable[[Expr], Expr]) -> Body:
    """`body` with `on_expr` applied to each expression that stands in a statement."""
    return _same(body, tuple([map_stmt(s, on_expr, lambda b: mapped(b, on_expr)) for s in body]))


def _same(old: Body, new: Body) -> Body:
    return old if len(old) == len(new) and all(a is b for a, b in zip(old, new)) else new
