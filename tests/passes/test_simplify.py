"""Simplification is exact: values, wrapping and faults stay."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsl.dtypes import DType, bool_, f32, f64, i8, i64, u8, u64
from kdsl.ir import scalar_ops
from kdsl.ir.nodes import (
    Alloc,
    Binary,
    Cast,
    Compare,
    Const,
    Expr,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Return,
    Select,
    Store,
    Unary,
    Var,
)
from kdsl.ir.printer import print_expr, print_stmt
from kdsl.passes.simplify import simplify_body, simplify_expr

x, y = Var("x", i64), Var("y", i64)
data = Load("A", (x,), i64)
yes, no = Const(True, bool_), Const(False, bool_)


def c(value: int, dtype: DType = i64) -> Const:
    return Const(value, dtype)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Binary("+", x, c(0)), x),
        (Binary("+", c(0), x), x),
        (Binary("*", c(1), x), x),
        (Binary("*", x, c(0)), c(0)),
        (Binary("*", data, c(0)), Binary("*", data, c(0))),
        (Binary("//", x, c(1)), x),
        (Binary("//", c(7), c(0)), Binary("//", c(7), c(0))),
        (Binary("//", c(-7), c(2)), c(-4)),
        (Binary("%", c(-7), c(4)), c(1)),
        (Binary("-", Binary("+", x, c(3)), c(1)), Binary("+", x, c(2))),
        (Binary("+", Binary("-", x, c(3)), c(3)), x),
        (Binary("+", c(200, u8), c(100, u8)), c(44, u8)),
        (Unary("-", c(-128, i8)), c(-128, i8)),
        (Unary("not", Unary("not", Compare("<", x, y))), Compare("<", x, y)),
        (Compare("<", c(3), c(4)), yes),
        (Logic("and", yes, Compare("<", x, y)), Compare("<", x, y)),
        (Logic("or", Compare("<", x, y), no), Compare("<", x, y)),
        (Logic("and", Compare("<", data, y), no), Logic("and", Compare("<", data, y), no)),
        (Select(yes, x, data), x),
        (Select(Compare("<", x, y), c(1), c(1)), c(1)),
        (Cast(c(300), u8), c(44, u8)),
        (Cast(x, i64), x),
        (Cast(c(3), f32), Const(3.0, f32)),
        (Let("t", c(2), Binary("*", Var("t", i64), c(3))), c(6)),
        (Binary("+", Const(-0.0, f64), Const(0.0, f64)), Const(0.0, f64)),
        (Binary("+", Var("f", f64), Const(0.0, f64)), Binary("+", Var("f", f64), Const(0.0, f64))),
    ],
    ids=lambda e: print_expr(e),
)
def test_expressions(before: Expr, after: Expr) -> None:
    assert simplify_expr(before) == after


def test_statements() -> None:
    store = Store("A", (x,), c(1))
    kept = Loop("i", c(0), Var("N", i64), c(1), (store,))
    assert simplify_body((If(yes, (store,), ()),)) == (store,)
    assert simplify_body((If(no, (store,), ()), kept)) == (kept,)
    assert simplify_body((If(Compare("<", x, y), ()),)) == ()
    assert simplify_body((If(Compare("<", data, y), ()),)) == (If(Compare("<", data, y), ()),)
    assert simplify_body((Loop("i", c(3), c(3), c(1), (store,)), kept)) == (kept,)
    assert simplify_body((Loop("i", c(0), x, c(1), ()),)) == ()
    assert simplify_body((kept, Return(), store)) == (kept, Return())
    local = If(yes, (Alloc("t", i64, ()), Store("t", (), c(1))))
    assert simplify_body((local,)) == (local,), "the branch bounds the life of t"
    same = (kept,)
    assert simplify_body(same) is same


def test_a_zero_step_stays_a_fault() -> None:
    loop = Loop("i", c(0), c(0), c(0), (Store("A", (x,), c(1)),))
    assert simplify_body((loop,)) == (loop,), print_stmt(loop)


def evaluate(e: Expr, values: dict[str, int]) -> object:
    match e:
        case Const():
            return e.value
        case Var():
            return values[e.name]
        case Unary():
            return scalar_ops.unary(e.op, e.dtype)(evaluate(e.x, values))
        case Binary():
            return scalar_ops.binary(e.op, e.dtype)(evaluate(e.a, values), evaluate(e.b, values))
        case Compare():
            return scalar_ops.COMPARE[e.op](evaluate(e.a, values), evaluate(e.b, values))
        case Select():
            return evaluate(e.a if evaluate(e.cond, values) else e.b, values)
        case Cast():
            return scalar_ops.cast(e.x.dtype, e.type)(evaluate(e.x, values))
        case _:
            raise AssertionError(type(e))


def terms(dtype: DType) -> st.SearchStrategy[Expr]:
    leaves = st.one_of(
        st.sampled_from((Var("p", dtype), Var("q", dtype))),
        st.sampled_from((0, 1, 2, dtype.max, dtype.min, dtype.max - 1)).map(lambda v: Const(v, dtype)),
    )

    def grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        op = st.sampled_from(("+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>", "min", "max"))
        return st.one_of(
            st.builds(Binary, op, inner, inner),
            st.builds(Unary, st.sampled_from(("-", "~")), inner),
            st.builds(Select, st.builds(Compare, st.sampled_from(("<", "==")), inner, inner), inner, inner),
            inner.map(lambda e: Cast(Cast(e, i8), dtype)),
        )

    return st.recursive(leaves, grow, max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_same_values_and_faults(drawn: st.DataObject) -> None:
    dtype = drawn.draw(st.sampled_from((i64, u8, i8, u64)))
    e = drawn.draw(terms(dtype))
    values = {n: drawn.draw(st.integers(dtype.min, dtype.max)) for n in "pq"}
    after = simplify_expr(e)
    assert after.dtype == dtype

    def outcome(e: Expr) -> object:
        try:
            return evaluate(e, values)
        except ZeroDivisionError:
            return "zero"

    assert outcome(after) == outcome(e)
