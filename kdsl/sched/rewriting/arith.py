"""Index arithmetic that schedules write: short constructors, simplified; what is known of sizes.

All expressions are i64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdsl.analysis.affine import Form
from kdsl.analysis.linear import difference, linear
from kdsl.dtypes import i64
from kdsl.ir.nodes import Binary, BinaryOp, Compare, Condition, Const, Expr, Func, Load, Logic, Var
from kdsl.ir.walk import map_expr_children, subexprs
from kdsl.passes.simplify import simplify_expr


def const(value: int) -> Const:
    """The i64 constant."""
    return Const(value, i64)


def var(name: str) -> Var:
    """The i64 variable."""
    return Var(name, i64)


def binary(op: BinaryOp, a: Expr, b: Expr) -> Expr:
    """`a op b`, simplified."""
    return simplify_expr(Binary(op, a, b, loc=a.loc or b.loc))


def add(a: Expr, b: Expr | int) -> Expr:
    """`a + b`, a negative constant subtracted."""
    if isinstance(b, int):
        return a if b == 0 else binary("+" if b > 0 else "-", a, const(abs(b)))
    if isinstance(a, Const) and not isinstance(b, Const):
        return add(b, int(a.value))
    return binary("+", a, b)


def sub(a: Expr, b: Expr) -> Expr:
    """`a - b`; as a sum of terms where both are affine."""
    if isinstance(b, Const):
        return add(a, -int(b.value))
    fa, fb = linear(a), linear(b)
    if fa is not None and fb is not None:
        return from_linear(fa - fb)
    return binary("-", a, b)


def mul(a: Expr, b: int) -> Expr:
    """`a * b`."""
    return binary("*", a, const(b))


def floor_div(a: Expr, b: int) -> Expr:
    """`a // b` for a constant b > 0."""
    form = linear(a)
    if form is not None and all(c % b == 0 for c in form.terms.values()):
        return from_linear(Form({m: c // b for m, c in form.terms.items()}))
    return binary("//", a, const(b))


def ceil_div(a: Expr, b: int) -> Expr:
    """`a / b` rounded up, for a constant b > 0."""
    form = linear(a)
    if form is not None and all(c % b == 0 for c in form.terms.values()):
        return floor_div(a, b)
    return floor_div(add(a, b - 1), b)


def least(a: Expr, b: Expr) -> Expr:
    """`min(a, b)`; decided where the difference is constant."""
    gap = difference(a, b)
    if gap is not None:
        return a if gap <= 0 else b
    return binary("min", a, b)


def largest(a: Expr, b: Expr) -> Expr:
    """`max(a, b)`; decided where the difference is constant."""
    gap = difference(a, b)
    if gap is not None:
        return a if gap >= 0 else b
    return binary("max", a, b)


def within(lo: Expr | None, at: Expr, hi: Expr | None) -> Expr:
    """`lo <= at and at < hi`; a None bound is left out."""
    tests: list[Expr] = []
    if lo is not None:
        tests.append(Compare("<=", lo, at))
    if hi is not None:
        tests.append(Compare("<", at, hi))
    return tests[0] if len(tests) == 1 else Logic("and", *tests)


# ------------------------------------------------------------------------- facts


def from_linear(form: Form) -> Expr:
    """An affine form as an expression: positive terms first."""
    out: Expr | None = None
    names = sorted(((m, c) for m, c in form.terms.items() if m), key=lambda t: t[1] < 0)
    for m, c in names:
        term = mul(var(m[0]), abs(c))
        if out is None:
            out = term if c > 0 else binary("-", const(0), term)
        else:
            out = Binary("+" if c > 0 else "-", out, term)
    return const(form.const) if out is None else add(out, form.const)


def tidied(e: Expr) -> Expr:
    """`e` with its index arithmetic as sums of terms, where that is shorter."""
    form = linear(e) if e.dtype == i64 else None
    if form is not None:
        new = from_linear(form)
        return new if _length(new) < _length(e) else e
    e = map_expr_children(e, tidied)
    match e:
        case Binary(op="//", a=a, b=Const(value=by)) if e.dtype == i64 and by > 0:
            return floor_div(a, int(by))
        case _:
            return e


def _length(e: Expr) -> int:
    return sum(1 for _ in subexprs(e))


def names_in(es: Iterable[Expr]) -> set[str]:
    """The names of all variables in `es`."""
    return {x.name for e in es for x in subexprs(e) if isinstance(x, Var)}


def buffers_in(es: Iterable[Expr]) -> set[str]:
    """The names of all buffers read in `es`."""
    return {x.buffer for e in es for x in subexprs(e) if isinstance(x, Load)}


def nonnegative(e: Expr, sizes: Sequence[str]) -> bool:
    """True: `e >= 0` for all sizes."""
    match e:
        case Binary(op="//", a=a, b=Const(value=value)) if value > 0:
            return nonnegative(a, sizes)
        case Binary(op="max", a=a, b=b):
            return nonnegative(a, sizes) or nonnegative(b, sizes)
        case Binary(op="min", a=a, b=b):
            return nonnegative(a, sizes) and nonnegative(b, sizes)
    form = linear(e)
    return form is not None and all(c >= 0 and (not m or m[0] in sizes) for m, c in form.terms.items())


def divides(func: Func, e: Expr, factor: int) -> bool:
    """True: `factor` divides `e`, by its coefficients and what the call's conditions say of sizes."""
    form = linear(e)
    if form is None:
        return False
    known = _divisors(func.conditions)
    return all(
        c % factor == 0 or (bool(m) and any(c * d % factor == 0 for d in known.get(m[0], ())))
        for m, c in form.terms.items()
    )


def _divisors(conditions: Sequence[Condition]) -> dict[str, list[int]]:
    out: dict[str, list[int]] = {}
    todo = [c.expr for c in conditions]
    while todo:
        match todo.pop():
            case Logic(op="and", a=a, b=b):
                todo += [a, b]
            case Compare(
                op="==", a=Binary(op="%", a=Var(name=name), b=Const(value=divisor)), b=Const(value=0)
            ) if divisor:
                out.setdefault(name, []).append(abs(int(divisor)))
            case Compare(op="==", a=Var(name=name), b=Const(value=value)) if value:
                out.setdefault(name, []).append(abs(int(value)))
            case _:
                pass
    return out
