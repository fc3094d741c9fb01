"""Makes every access safe: proved in bounds, safe by a condition at the call, or tested when it runs.

An index into a part of an array is tested by a call of `within`, which stays only where it is needed.
A divisor n that is proved to be positive becomes max(n, 1), where what it divides is a plain sum: no test for
0, and later passes know both by this form.
"""

from __future__ import annotations

from dataclasses import replace

from kdsl.analysis.bounds import verdicts
from kdsl.dtypes import i64
from kdsl.ir.nodes import Accumulate, Atomic, Binary, Body, Call, Const, Expr, Func, Load, Stmt, Store
from kdsl.ir.walk import map_expr_children, map_stmt, subexprs


def bounds(func: Func) -> Func:
    """`func` with `checked` set on each access that needs a test in place, and the other conditions added."""
    found = verdicts(func)

    # An expression object that stands at two places is tested if either place asks for it.
    def on_expr(e: Expr) -> Expr:
        new = map_expr_children(e, on_expr)
        if isinstance(new, Call) and new.fn == "within" and id(e) not in found.checked:
            return new if any(map(_can_fault, subexprs(new.args[1]))) else new.args[0]
        if isinstance(new, Load):
            checked = found.checked.get(id(e), ())
            return new if checked == new.checked else replace(new, checked=checked)
        if isinstance(new, Binary) and new.op in ("//", "%") and new.dtype == i64:
            return replace(new, b=_divisor(new.b, id(e) in found.positive))
        return new

    def on_body(body: Body) -> Body:
        new: list[Stmt] = []
        for old in body:
            s = map_stmt(old, on_expr, on_body)
            if isinstance(s, (Store, Accumulate, Atomic)):
                checked = found.checked.get(id(old), ())
                s = s if checked == s.checked else replace(s, checked=checked)
            new.append(s)
        return body if all(a is b for a, b in zip(body, new)) else tuple(new)

    return replace(func, body=on_body(func.body), conditions=(*func.conditions, *found.conditions))


def _divisor(e: Expr, positive: bool) -> Expr:
    """`max(e, 1)` for one that is proved; what looks so in the kernel is turned round."""
    one = Const(1, i64)
    if isinstance(e, Binary) and e.op == "max" and e.b == one:
        return e if positive else replace(e, a=one, b=e.a)
    return Binary("max", e, one) if positive else e


def _can_fault(e: Expr) -> bool:
    match e:
        case Load():
            return bool(e.index)
        case Binary(op="//" | "%", b=by):
            return not (isinstance(by, Const) and by.value)
        case _:
            return isinstance(e, Call)
