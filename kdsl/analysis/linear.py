"""Index expressions as affine forms, by their shape alone: no facts, no symbols made."""

from __future__ import annotations

from kdsl.analysis.affine import Form, constant, symbol
from kdsl.dtypes import i64
from kdsl.ir.nodes import Binary, Call, Const, Expr, Load, Loop, Var
from kdsl.ir.walk import subexprs


def linear(e: Expr) -> Form | None:
    """`e` as an affine form over its variables; None when it is anything else."""
    match e:
        case Const(type=t, value=value) if t == i64:
            return constant(int(value))
        case Var(type=t) if t == i64:
            return symbol(e.name)
        case Binary(op="+" | "-" | "*" as op, a=x, b=y):
            a, b = linear(x), linear(y)
            if a is None or b is None:
                return None
            if op == "*":
                return a * b if a.is_const or b.is_const else None
            return a + b if op == "+" else a - b
        case _:
            return None


def difference(a: Expr, b: Expr) -> int | None:
    """`a - b` where it is the same number everywhere."""
    if a == b and faultless(a):
        return 0
    fa, fb = linear(a), linear(b)
    if fa is None or fb is None:
        return None
    gap = fa - fb
    return gap.const if gap.is_const else None


def extent(loop: Loop) -> int | None:
    """The number of iterations where it is a constant."""
    step = loop.step.value if isinstance(loop.step, Const) else 0
    gap = difference(loop.hi, loop.lo)
    return None if gap is None or not step else len(range(0, gap, int(step)))


def faultless(e: Expr) -> bool:
    """True when evaluating `e` reads no memory and cannot fault."""
    for x in subexprs(e):
        match x:
            case Load() | Call():
                return False
            case Binary(op="//" | "%") if x.dtype.is_int and not (isinstance(x.b, Const) and x.b.value):
                return False
            case _:
                pass
    return True
