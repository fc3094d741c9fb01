"""Makes every access safe: proved in bounds, or tested when it runs."""

from __future__ import annotations

from dataclasses import replace

from kdsl.ir.nodes import Accumulate, Atomic, Body, Expr, Func, Load, Stmt, Store
from kdsl.ir.walk import map_expr_children, map_stmt


def bounds(func: Func) -> Func:
    """`func` with `checked` set on each access that is not proved."""

    def on_expr(e: Expr) -> Expr:
        e = map_expr_children(e, on_expr)
        return replace(e, checked=tuple(range(len(e.index)))) if isinstance(e, Load) and e.index else e

    def on_body(body: Body) -> Body:
        new: list[Stmt] = []
        for s in body:
            s = map_stmt(s, on_expr, on_body)
            if isinstance(s, (Store, Accumulate, Atomic)) and s.index:
                s = replace(s, checked=tuple(range(len(s.index))))
            new.append(s)
        return tuple(new)

    return replace(func, body=on_body(func.body))
