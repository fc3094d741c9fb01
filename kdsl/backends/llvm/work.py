"""How much work a call is, from its sizes: the number of expression nodes that will be evaluated, roughly.

Loops count their iterations from the sizes, a bound that depends on an outer loop's variable is taken at its
widest, all branches count. A `while`, or a bound that depends on data, makes the answer unknown.
"""

from __future__ import annotations

from dataclasses import replace

from kdsl.backends.llvm.expressions import Expressions
from kdsl.ir.nodes import Binary, Body, Const, Expr, Loop, Var, While
from kdsl.ir.walk import map_expr_children, stmt_bodies, stmt_exprs, stmts, subexprs

_SAFE_OPS = frozenset(("+", "-", "*", "min", "max", "//", "%"))


def emit_work(x: Expressions, body: Body) -> str | None:
    """The f64 (a literal or a name) of the work in `body`; None when it cannot be told from the sizes."""
    if any(isinstance(s, While) for s in stmts(body)):
        return None
    return _work(x, body, {}, {})


def _work(x: Expressions, body: Body, least: dict[str, Expr], most: dict[str, Expr]) -> str | None:
    fixed = 0
    total = ""
    for s in body:
        fixed += 1 + sum(sum(1 for _ in subexprs(e)) for e in stmt_exprs(s))
        for nested in stmt_bodies(s):
            inner_least, inner_most = least, most
            if isinstance(s, Loop):
                low, high = _widest(s, least, most)
                inner_least, inner_most = {**least, s.var: low}, {**most, s.var: high}
            part = _work(x, nested, inner_least, inner_most)
            if part is None:
                return None
            if isinstance(s, Loop):
                trips = _trips(x, s, low, high)
                if trips is None:
                    return None
                part = x.b.value(f"fmul double {trips}, {part}")
            total = x.b.value(f"fadd double {total}, {part}") if total else part
    if not total:
        return f"{float(fixed)}"
    return x.b.value(f"fadd double {total}, {float(fixed)}")


def _widest(s: Loop, least: dict[str, Expr], most: dict[str, Expr]) -> tuple[Expr, Expr]:
    """The loop's bounds, outer variables put where they give about the longest range."""
    if isinstance(s.step, Const) and s.step.value < 0:
        return _extreme(s.hi, least, most), _extreme(s.lo, most, least)
    return _extreme(s.lo, least, most), _extreme(s.hi, most, least)


def _extreme(e: Expr, toward: dict[str, Expr], away: dict[str, Expr]) -> Expr:
    """`e` with each variable at that end of its range which moves `e` toward the end asked for."""
    match e:
        case Var():
            return toward.get(e.name, e)
        case Binary(op="-"):
            return replace(e, a=_extreme(e.a, toward, away), b=_extreme(e.b, away, toward))
        case Binary(op="*", b=Const(value=by)) if by < 0:
            return replace(e, a=_extreme(e.a, away, toward))
        case Binary(op="*", a=Const(value=by)) if by < 0:
            return replace(e, b=_extreme(e.b, away, toward))
        case _:
            return map_expr_children(e, lambda part: _extreme(part, toward, away))


def _trips(x: Expressions, s: Loop, low: Expr, high: Expr) -> str | None:
    if not (isinstance(s.step, Const) and s.step.value != 0 and _known(x, low) and _known(x, high)):
        return None
    span = x.b.value(f"sub i64 {x.emit(high)}, {x.emit(low)}")
    length = x.b.call("i64", "llvm.smax.i64", ("i64", span), ("i64", "0"))
    trips = x.b.value(f"sitofp i64 {length} to double")
    if (stride := abs(int(s.step.value))) == 1:
        return trips
    return x.b.value(f"fdiv double {trips}, {float(stride)}")


def _known(x: Expressions, e: Expr) -> bool:
    """Whether `e` is made of sizes and constants by operations that cannot fault."""
    for part in subexprs(e):
        match part:
            case Const():
                continue
            case Var() if part.name in x.vars:
                continue
            case Binary() if part.op in _SAFE_OPS:
                if part.op in ("//", "%") and not (isinstance(part.b, Const) and part.b.value != 0):
                    return False
            case _:
                return False
    return True
