"""Products of sizes that stay within 64 bits, by their factors or by a condition at the call."""

from __future__ import annotations

from kdsl.analysis.conditions import PRODUCT_LIMIT
from kdsl.analysis.linear import linear
from kdsl.analysis.values import SIZE_MAX
from kdsl.dtypes import i64
from kdsl.ir.nodes import Binary, Compare, Const, Expr, Func, Logic
from kdsl.sched.rewriting.arith import const, nonnegative

FITS = 1 << 62
"""Products up to here, and their sums with block sizes, stay within 64 bits."""


def small_product(a: Expr, b: Expr) -> Expr:
    """The condition that `a * b`, of numbers >= 0, is small; the analysis knows it by this form."""
    return Logic(
        "or",
        Compare("==", b, const(0)),
        Compare("<=", a, Binary("//", const(PRODUCT_LIMIT), b)),
    )


def never_negative(e: Expr, func: Func) -> bool:
    """True: `e >= 0` at every call, products that cannot wrap included."""
    match e:
        case Binary(op="*", a=a, b=b) if nonlinear(e):
            if most(a, func) * most(b, func) > FITS:
                wanted = small_product(a, b)
                if all(c.expr != wanted for c in func.conditions):
                    return False
            return never_negative(a, func) and never_negative(b, func)
        case Binary(op="max", a=a, b=b):
            return never_negative(a, func) or never_negative(b, func)
        case Binary(op="//", a=a, b=Const(value=value)) if value > 0:
            return never_negative(a, func)
        case _:
            return nonnegative(e, func.sizes)


def nonlinear(e: Expr) -> bool:
    return linear(e) is None


def most(e: Expr, func: Func) -> int:
    """A number that `e`, if it does not wrap, never exceeds."""
    match e:
        case Const(value=value):
            return int(value)
        case Binary(op="min", a=a, b=b):
            return min(most(a, func), most(b, func))
        case Binary(op="max", a=a, b=b):
            return max(most(a, func), most(b, func))
        case Binary(op="//", a=a, b=Const(value=value)) if value > 0:
            return most(a, func) // int(value)
        case Binary(op="*", a=a, b=b) if nonlinear(e):
            if not never_negative(e, func):
                return i64.max
            return PRODUCT_LIMIT if small_product(a, b) in [c.expr for c in func.conditions] else FITS
        case _:
            form = linear(e)
            if form is None or not form.names() <= set(func.sizes):
                return i64.max
            return sum(c if not m else max(c, 0) * SIZE_MAX for m, c in form.terms.items())
