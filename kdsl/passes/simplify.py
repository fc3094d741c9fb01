"""Exact simplifications: constants folded, identities applied, dead branches and empty loops removed.

Nothing that can fault is dropped, and floats are never regrouped. The result prints better.
"""

from __future__ import annotations

from dataclasses import replace

from kdsl.dtypes import bool_, i64
from kdsl.ir import scalar_ops
from kdsl.ir.nodes import (
    Alloc,
    Binary,
    Body,
    Break,
    Call,
    Cast,
    Compare,
    Const,
    Continue,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Return,
    Select,
    Stmt,
    Unary,
    Var,
)
from kdsl.ir.numbers import wrap
from kdsl.ir.walk import map_expr_children, map_stmt, stmt_exprs, subexprs, substitute


def simplify(func: Func) -> Func:
    """`func` with the same meaning, faults included."""
    return replace(func, body=simplify_body(func.body))


def simplify_body(body: Body) -> Body:
    """The statements of `body`, simplified; those after a certain exit are dropped."""
    new: list[Stmt] = []
    for s in body:
        new.extend(_stmt(s))
        if new and isinstance(new[-1], (Break, Continue, Return)):
            break
    return body if len(new) == len(body) and all(a is b for a, b in zip(body, new)) else tuple(new)


def _stmt(s: Stmt) -> Body:
    s = map_stmt(s, simplify_expr, simplify_body)
    match s:
        case If(cond=Const(value=value)):
            chosen = s.then if value else s.orelse
            # An Alloc of the branch would reach into the rest of the body.
            if any(isinstance(inner, Alloc) for inner in chosen):
                return (s,)
            return chosen
        case If(then=(), orelse=()) if _faultless(s.cond):
            return ()
        case Loop(lo=Const(value=lo), hi=Const(value=hi), step=Const(value=step)) if step and not range(
            int(lo), int(hi), int(step)
        ):
            return ()
        case Loop(body=(), step=Const(value=step)) if step and all(_faultless(e) for e in stmt_exprs(s)):
            return ()
        case _:
            return (s,)


def simplify_expr(e: Expr) -> Expr:
    """`e` simplified, of the same dtype and value, with the same faults."""
    e = map_expr_children(e, simplify_expr)
    match e:
        case Unary():
            return _unary(e)
        case Binary():
            return _binary(e)
        case Compare(a=Const(), b=Const()):
            return _compare(e)
        case Logic():
            return _logic(e)
        case Select(cond=Const(value=value)):
            return e.a if value else e.b
        case Select() if e.a == e.b and _faultless(e.cond):
            return e.a
        case Cast():
            return _cast(e)
        case Let(value=Const() | Var()):
            return simplify_expr(substitute(e.body, {e.name: e.value}))
        case _:
            return e


def _faultless(e: Expr) -> bool:
    """True when evaluating `e` cannot fault."""
    for x in subexprs(e):
        match x:
            case Load():
                return False
            case Binary(op="//" | "%") if x.dtype.is_int and not (isinstance(x.b, Const) and x.b.value):
                return False
            case Call(fn="ipow" | "within"):
                return False
            case _:
                pass
    return True


def _unary(e: Unary) -> Expr:
    match e.op, e.x:
        case op, Const(value=value, type=t):
            return Const(scalar_ops.unary(op, t)(value), t, loc=e.loc)
        case ("not", Unary(op="not", x=x)) | ("~", Unary(op="~", x=x)):
            return x
        case _:
            return e


def _binary(e: Binary) -> Expr:
    t = e.dtype
    if isinstance(e.a, Const) and isinstance(e.b, Const):
        if t.is_int and e.op in ("//", "%") and not e.b.value:
            return e
        return Const(scalar_ops.binary(e.op, t)(e.a.value, e.b.value), t, loc=e.loc)
    if not t.is_int:
        return e
    a = int(e.a.value) if isinstance(e.a, Const) else None
    b = int(e.b.value) if isinstance(e.b, Const) else None
    match e.op:
        case "+" | "|" | "^" if a == 0:
            return e.b
        case "+" | "-" | "|" | "^" | "<<" | ">>" if b == 0:
            return e.a
        case "*" if a == 1:
            return e.b
        case "*" | "//" if b == 1:
            return e.a
        case "*" | "&" if 0 in (a, b) and _faultless(e):
            return Const(0, t, loc=e.loc)
        case "%" if b == 1 and _faultless(e.a):
            return Const(0, t, loc=e.loc)
        case "min" | "max" if e.a == e.b and _faultless(e.b):
            return e.a
        case "+" | "-" if b is not None:
            return _add_constants(e, b)
        case "+" if isinstance(e.b, Binary) and e.b.op in ("+", "-") and _is_index(e):
            # x + (y + z) reads better, and its outer part can leave more loops, as (x + y) + z.
            first = _binary(replace(e, b=e.b.a))
            return _binary(Binary(e.b.op, first, e.b.b, loc=e.loc))
        case _:
            return e


def _is_index(e: Expr) -> bool:
    """True for arithmetic on loop variables and sizes alone."""
    return e.dtype == i64 and not any(isinstance(x, (Load, Call, Let)) for x in subexprs(e))


def _add_constants(e: Binary, b: int) -> Expr:
    """`(x + c) + b` and its like as one sum: integers wrap, so regrouping is exact."""
    inner = e.a
    if not (isinstance(inner, Binary) and inner.op in ("+", "-") and isinstance(inner.b, Const)):
        return e
    c = int(inner.b.value)
    total = wrap((c if inner.op == "+" else -c) + (b if e.op == "+" else -b), e.dtype)
    if total == 0:
        return inner.a
    if total < 0 and -total <= e.dtype.max:
        return Binary("-", inner.a, Const(-total, e.dtype, loc=e.loc), loc=e.loc)
    return Binary("+", inner.a, Const(total, e.dtype, loc=e.loc), loc=e.loc)


def _compare(e: Compare) -> Expr:
    assert isinstance(e.a, Const) and isinstance(e.b, Const)
    return Const(bool(scalar_ops.COMPARE[e.op](e.a.value, e.b.value)), bool_, loc=e.loc)


def _logic(e: Logic) -> Expr:
    decides = e.op == "or"  # the value of `a` that makes `b` irrelevant
    match e.a, e.b:
        case Const(value=value), _:
            return e.a if bool(value) == decides else e.b
        case _, Const(value=value) if bool(value) != decides:
            return e.a
        case _, Const() if _faultless(e.a):
            return e.b
        case _:
            return e


def _cast(e: Cast) -> Expr:
    if e.x.dtype == e.type:
        return e.x
    if isinstance(e.x, Const):
        return Const(scalar_ops.cast(e.x.type, e.type)(e.x.value), e.type, loc=e.loc)
    return e
