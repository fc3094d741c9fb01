"""What is sure about an expression's evaluation: divisors that are not 0, loads that run in any case."""

from __future__ import annotations

from kdsl.ir.nodes import Binary, Const, Expr, Load, Logic, Select
from kdsl.ir.walk import expr_children


def nonzero(e: Expr) -> bool:
    """True for a constant that is not 0, and for `max(n, 1)`."""
    match e:
        case Const(value=value):
            return value != 0
        case Binary(op="max", b=Const(value=value)) | Binary(op="max", a=Const(value=value)):
            return e.dtype.is_int and value > 0
        case _:
            return False


def unconditional_loads(e: Expr) -> frozenset[Load]:
    """The loads that run whenever `e` is evaluated."""
    found: set[Load] = set()

    def visit(x: Expr) -> None:
        match x:
            case Load():
                found.add(x)
                for i in x.index:
                    visit(i)
            case Logic():
                visit(x.a)
            case Select():
                visit(x.cond)
            case _:
                for c in expr_children(x):
                    visit(c)

    visit(e)
    return frozenset(found)
