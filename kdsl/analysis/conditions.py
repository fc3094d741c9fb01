"""Formulas over sizes and scalar arguments as IR: what is checked at the call, and how it reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

from kdsl.analysis.affine import Atom, Form, Formula
from kdsl.dtypes import DType, bool_, i64
from kdsl.ir.nodes import Binary, BinaryOp, Cast, Compare, CompareOp, Const, Expr, Logic, LogicOp, Var
from kdsl.ir.printer import print_expr
from kdsl.ir.walk import map_expr_children

Dtypes = Mapping[str, DType]
"""The dtype of each size (i64) and scalar argument."""


PRODUCT_LIMIT = 1 << 52
"""Products of sizes beyond this make a condition false (their sums then fit 64 bits)."""


def to_expr(formula: Formula, dtypes: Dtypes, guarded: bool = True) -> Expr:
    """`formula` as a bool_ expression. Terms stand on the side on which they are positive.

    `guarded`: products of sizes (which must be >= 0) are tested to be small before they are computed.
    """
    if isinstance(formula, Atom):
        out = _compare(formula.form, dtypes)
        if guarded:
            for m in formula.form.terms:
                for n in range(1, len(m)):
                    out = Logic("and", product_fits(m[:n], m[n], dtypes), out)
        return out
    parts = [to_expr(p, dtypes, guarded) for p in dict.fromkeys(formula.parts)]
    op: LogicOp = "and" if formula.kind == "all" else "or"
    if not parts:
        return Const(formula.kind == "all", bool_)
    out = parts[0]
    for p in parts[1:]:
        out = Logic(op, out, p)
    return out


def product_fits(names: tuple[str, ...], last: str, dtypes: Dtypes) -> Expr:
    """`last * product of names <= PRODUCT_LIMIT`, where the product of names is known to be that small."""
    factor = _name(last, dtypes)
    limit = Binary("//", Const(PRODUCT_LIMIT, i64), factor)
    fits = Compare("<=", _sum({names: 1}, dtypes), limit)
    return Logic("or", Compare("==", factor, Const(0, i64)), fits)


def _compare(form: Form, dtypes: Dtypes) -> Expr:
    """`form >= 0` as `small <= large`, or `<` when that saves a 1."""
    small = {m: -c for m, c in form.terms.items() if c < 0}
    large = {m: c for m, c in form.terms.items() if c > 0}
    op: CompareOp = "<="
    if small.get(()) == 1 and len(small) > 1:
        op = "<"
        del small[()]
    elif small.get(()) == 1 and len(large) == 1 and len(small) == 1:
        return Compare("<", Const(0, i64), _sum(large, dtypes))
    return Compare(op, _sum(small, dtypes), _sum(large, dtypes))


def _sum(terms: Mapping[tuple[str, ...], int], dtypes: Dtypes) -> Expr:
    out: Expr | None = None
    for m, c in sorted(terms.items(), key=lambda t: (not t[0], t[0])):
        part: Expr | None = None
        for name in m:
            factor = _name(name, dtypes)
            part = factor if part is None else Binary("*", part, factor)
        if part is None:
            part = Const(c, i64)
        elif c != 1:
            part = Binary("*", Const(c, i64), part)
        out = part if out is None else Binary("+", out, part)
    return out if out is not None else Const(0, i64)


def _name(name: str, dtypes: Dtypes) -> Expr:
    dtype = dtypes[name]
    return Var(name, dtype) if dtype == i64 else Cast(Var(name, dtype), i64)


# ------------------------------------------------------------------- from isl

_BINARY: dict[str, BinaryOp] = {
    "add": "+", "sub": "-", "mul": "*", "div": "//", "fdiv_q": "//", "pdiv_q": "//", "pdiv_r": "%",
    "zdiv_r": "%", "min": "min", "max": "max",
}  # fmt: skip
_LOGIC: dict[str, LogicOp] = {"and_": "and", "or_": "or", "and_then": "and", "or_else": "or"}
_COMPARE: dict[str, CompareOp] = {"eq": "==", "le": "<=", "lt": "<", "ge": ">=", "gt": ">"}


def from_set(e: Any, dtypes: Dtypes) -> Expr:
    """A condition for a set's AST expression; isl writes 0 and 1 for the empty and the whole set."""
    out = from_ast(e, dtypes)
    return Const(out != Const(0, i64), bool_) if out.dtype == i64 else out


def from_ast(e: Any, dtypes: Dtypes) -> Expr:
    """An isl AST expression (of `AstBuild.expr_from_set`) as IR.

    isl uses `pdiv` only where the dividend is not negative and `zdiv_r` only to compare with 0, so that
    Python's floored `//` and `%` serve for all of them.
    """
    kind = e.get_type().name
    if kind == "int":
        return Const(int(e.int_get_val().to_python()), i64)
    if kind == "id":
        return _name(e.id_get_id().get_name(), dtypes)
    op = e.op_get_type().name
    args = [from_ast(e.op_get_arg(n), dtypes) for n in range(e.op_get_n_arg())]
    if op == "minus":
        return Binary("-", Const(0, i64), args[0])
    if op in _COMPARE:
        return _tidy(_COMPARE[op], *args)
    # isl's min and max take any number of arguments.
    if op in _LOGIC:
        return reduce(lambda a, b: Logic(_LOGIC[op], a, b), args)
    return reduce(lambda a, b: Binary(_BINARY[op], a, b), args)


def _tidy(op: CompareOp, a: Expr, b: Expr) -> Expr:
    """`M >= N + 1` as `N < M`."""
    if op in (">=", ">"):
        a, b, op = b, a, "<=" if op == ">=" else "<"
    if op == "<=" and isinstance(a, Binary) and a.op == "+" and a.b == Const(1, i64):
        return Compare("<", a.a, b)
    return Compare(op, a, b)


def text(e: Expr) -> str:
    """A condition as it reads in a message: casts of scalar arguments left out."""

    def bare(e: Expr) -> Expr:
        return (
            Var(e.x.name, i64) if isinstance(e, Cast) and isinstance(e.x, Var) else map_expr_children(e, bare)
        )

    return print_expr(bare(e), known=True)
