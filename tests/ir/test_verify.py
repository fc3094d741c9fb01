"""Each rule of the verifier, broken once."""

from __future__ import annotations

from typing import Any

import pytest

from kdsl.dtypes import Size, bool_, f32, f64, i32, i64, u32, u64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    ArrayParam,
    Assert,
    Atomic,
    Binary,
    Break,
    Call,
    Cast,
    Compare,
    Condition,
    Const,
    Continue,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Mark,
    Options,
    Param,
    Print,
    Return,
    ScalarParam,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from kdsl.ir.parser import parse_func
from kdsl.ir.verify import InvalidIR, verify
from kdsl.source import Loc

N = Size({"N": 1})
A = ArrayParam("A", f32, (N, N))
C = ArrayParam("C", f32, (N,), written=True)
S = ScalarParam("s", f32)
ZERO, ONE = Const(0, i64), Const(1, i64)
X = Const(1.0, f32)
TRUE = Const(True, bool_)


def func(
    *body: Stmt, params: tuple[Param, ...] = (A, C, S), sizes: tuple[str, ...] = ("N",), **more: Any
) -> Func:
    return Func("f", params, body, sizes, **more)


def store(value: Expr, *index: Expr) -> Store:
    return Store("C", index or (ZERO,), value)


def loop(*body: Stmt, var: str = "i", mark: Mark | None = None, step: Expr = ONE) -> Loop:
    return Loop(var, ZERO, Var("N", i64), step, body, mark)


def deep(levels: int) -> Expr:
    e: Expr = X
    for _ in range(levels):
        e = Unary("-", e)
    return e


def long_sum(terms: int) -> Expr:
    e: Expr = X
    for _ in range(terms):
        e = Binary("+", e, X)
    return e


def nested(levels: int) -> Stmt:
    s: Stmt = Return()
    for _ in range(levels):
        s = If(TRUE, (s,))
    return s


TWICE = Return()
LOCAL = Alloc("T", f32, (Const(4, i64),))
CELL = Alloc("acc", f32, ())

BROKEN: list[tuple[str, Func]] = [
    # names
    ("the name `N` is bound twice on one path", func(params=(ScalarParam("N", f32),))),
    ("the name `A` is bound twice on one path", func(params=(A, A))),
    ("the name `i` is bound twice on one path", func(loop(loop()))),
    ("the name `s` is bound twice on one path", func(loop(var="s"))),
    ("the name `T` is bound twice on one path", func(LOCAL, loop(Alloc("T", f32, ())))),
    ("the name `T` is bound twice on one path", func(LOCAL, Alloc("T", f32, ()))),
    ("the name `s` is bound twice on one path", func(store(Let("s", X, X)))),
    ("the name `t` is bound twice on one path", func(store(Let("t", X, Let("t", X, X))))),
    ("'i j' is not an identifier", func(loop(var="i j"))),
    ("'for' is not an identifier", func(loop(var="for"))),
    ("`k` is not bound here", func(store(Var("k", f32)))),
    ("`i` is not bound here", func(loop(), store(X, Var("i", i64)))),
    ("`t` is not bound here", func(store(Binary("+", Let("t", X, X), Var("t", f32))))),
    ("`T` is not bound here", func(If(TRUE, (LOCAL,)), Store("T", (ZERO,), X))),
    ("`A` is a buffer, no variable, here", func(store(Var("A", f32)))),
    ("`s` is no buffer here", func(store(Load("s", (), f32)))),
    ("`B` is not bound here", func(store(Load("B", (ZERO,), f32)))),
    # header
    ("the shape of `A` uses `N`, which is not in `sizes`", func(sizes=())),
    ("the result `R` is not marked as written", func(params=(ArrayParam("R", f32, (), result=True),))),
    ("results must come last among the parameters",
     func(params=(ArrayParam("R", f32, (), written=True, result=True), S))),
    ("`may_alias` names `s`, which is no array parameter", func(options=Options(may_alias=("s",)))),
    ("a call condition is f32, not bool_", func(conditions=(Condition(Var("s", f32), ""),))),
    ("the call condition `C[0] == 1.0` reads the buffer `C`",
     func(conditions=(Condition(Compare("==", Load("C", (ZERO,), f32), X), ""),))),
    # dtypes
    ("the value is f64, but `C` holds f32", func(store(Const(1.0, f64)))),
    ("the value is f64, but `C` holds f32", func(Accumulate("+", "C", (ZERO,), Const(1.0, f64)))),
    ("the value is f64, but `C` holds f32", func(Atomic("+", "C", (ZERO,), Const(1.0, f64)))),
    ("the use of `s` is f64, not f32", func(store(Cast(Var("s", f64), f32)))),
    ("the load of `A` is f64, not f32", func(store(Cast(Load("A", (ZERO, ZERO), f64), f32)))),
    ("an index of `C` is i32, not i64", func(store(X, Const(0, i32)))),
    ("the end of a range is i32, not i64", func(Loop("i", ZERO, Const(3, i32), ONE, ()))),
    ("the step of a range is f32, not i64", func(loop(step=X))),
    ("an extent of `T` is i32, not i64", func(Alloc("T", f32, (Const(3, i32),)))),
    ("the condition of an if is f32, not bool_", func(If(X, ()))),
    ("the condition of a while is f32, not bool_", func(While(X, ()))),
    ("the condition of an assert is f32, not bool_", func(Assert(X, ""))),
    ("the condition of a select is f32, not bool_", func(store(Select(X, X, X)))),
    ("the choices of a select are f32 and f64", func(store(Select(TRUE, X, Const(1.0, f64))))),
    ("an operand of `and` is f32, not bool_", func(Assert(Logic("and", TRUE, X), ""))),
    ("the operands of `+` are f32 and f64", func(store(Binary("+", X, Const(1.0, f64))))),
    ("the operands of `<` are f32 and f64", func(Assert(Compare("<", X, Const(1.0, f64)), ""))),
    # operators
    ("`/` is not defined for i64", func(store(X, Binary("/", ONE, ONE)))),
    ("`&` is not defined for f32", func(store(Binary("&", X, X)))),
    ("`-` is not defined for bool_", func(Assert(Binary("-", TRUE, TRUE), ""))),
    ("`~` is not defined for f32", func(store(Unary("~", X)))),
    ("`not` is not defined for f32", func(store(Unary("not", X)))),
    ("`-` is not defined for bool_", func(Assert(Unary("-", TRUE), ""))),
    ("`@` is not defined for f32", func(store(Binary("@", X, X)))),  # type: ignore[arg-type]
    ("unknown operator 'is'", func(Assert(Compare("is", X, X), ""))),  # type: ignore[arg-type]
    # functions
    ("unknown function `gamma`", func(store(Call("gamma", (X,), f32)))),
    ("`fma` takes 3 arguments, not 1", func(store(Call("fma", (X,), f32)))),
    ("the arguments of `copysign` have types f32, f64",
     func(store(Call("copysign", (X, Const(1.0, f64)), f32)))),
    ("`sqrt` to i64 is not defined for i64", func(store(X, Call("sqrt", (ONE,), i64)))),
    ("`ipow` to f32 is not defined for f32", func(store(Call("ipow", (X, X), f32)))),
    ("`within` to i64 is not defined for f32", func(store(X, Call("within", (X, X, X), i64)))),
    ("the result of `sqrt` is f64, not f32", func(store(Cast(Call("sqrt", (X,), f64), f32)))),
    ("the result of `isnan` is f32, not bool_", func(store(Call("isnan", (X,), f32)))),
    ("`bitcast` to f64 is not defined for f32", func(store(Cast(Call("bitcast", (X,), f64), f32)))),
    ("`bitcast` to u32 is not defined for i64", func(store(Cast(Call("bitcast", (ONE,), u32), f32)))),
    ("`uniform` to f32 is not defined for i64", func(store(Call("uniform", (ONE, ONE), f32)))),
    ("the result of `random_bits` is u64, not u32",
     func(store(Cast(Call("random_bits", (Const(1, u64), Const(1, u64)), u64), f32)))),
    # constants
    ("the constant 2147483648 is out of the range of i32", func(store(Cast(Const(2**31, i32), f32)))),
    ("the constant 0.1 is not rounded to f32", func(store(Const(0.1, f32)))),
    ("the f32 constant 1 is not a float", func(store(Const(1, f32)))),
    ("the i64 constant True is not an int", func(store(X, Const(True, i64)))),
    ("the bool_ constant 1 is not a bool", func(Assert(Const(1, bool_), ""))),
    # buffers
    ("`C` has rank 1 but is accessed with 2 indices", func(store(X, ZERO, ZERO))),
    ("`A` has rank 2 but is accessed with 1 indices", func(store(Load("A", (ZERO,), f32)))),
    ("the array parameter `A` is stored to but not marked as written", func(Store("A", (ZERO, ZERO), X))),
    ("the array parameter `A` is stored to but not marked as written",
     func(Accumulate("+", "A", (ZERO, ZERO), X))),
    ("`checked` (1,) of `C` names a dimension that it does not have", func(Store("C", (ZERO,), X, (1,)))),
    ("`checked` (1, 0) of `A` is not ascending", func(store(Load("A", (ZERO, ZERO), f32, (1, 0))))),
    ("the old value needs a rank-0 buffer of f32: `C` is not one",
     func(Atomic("+", "C", (ZERO,), X, old="C"))),
    ("accumulating by `min` is not defined for bool_",
     func(Alloc("b", bool_, ()), Accumulate("min", "b", (), TRUE))),
    ("an atomic `+` is not defined for bool_", func(Alloc("b", bool_, ()), Atomic("+", "b", (), TRUE))),
    ("the shape of `T` depends on `s`, which is no size",
     func(Alloc("T", f32, (Cast(Var("s", f32), i64),)))),
    ("the shape of `T` depends on `i`, which is no size", func(loop(Alloc("T", f32, (Var("i", i64),))))),
    ("unknown memory 'fast'", func(Alloc("T", f32, (), "fast"))),  # type: ignore[arg-type]
    # control
    ("`break` stands outside of a loop", func(Break())),
    ("`continue` stands outside of a loop", func(loop(), If(TRUE, (Continue(),)))),
    ("a loop is bound to 'grid', which is none of grid.x, grid.y, grid.z, block.x, block.y, block.z",
     func(loop(mark=Mark("bind", "grid")))),
    ("a unroll mark has the axis 'grid.x'", func(loop(mark=Mark("unroll", "grid.x")))),
    ("unknown loop mark 'fast'", func(loop(mark=Mark("fast")))),  # type: ignore[arg-type]
    (f"the statement id {TWICE.id} occurs twice", func(TWICE, If(TRUE, (TWICE,)))),
    ("unknown statement Stmt", func(Stmt())),
    ("unknown expression Expr", func(store(Expr()))),
    ("print cannot write 3", func(Print((3,)))),  # type: ignore[arg-type]
    # size
    ("an expression is nested more than 80 (150 on the left) levels deep", func(store(deep(80)))),
    ("an expression is nested more than 80 (150 on the left) levels deep", func(store(long_sum(150)))),
    ("statements are nested more than 80 levels deep", func(nested(80))),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "broken"), BROKEN, ids=[r.replace(" ", "_") for r, _ in BROKEN])
def test_broken_rule(rule: str, broken: Func) -> None:
    with pytest.raises(InvalidIR) as e:
        verify(broken)
    assert e.value.rule == rule
    assert str(e.value).startswith(f"invalid IR in `f`: {rule}")


def test_message_shows_the_statement_and_its_place() -> None:
    bad = Store("C", (Var("i", i64),), Const(1.0, f64), loc=Loc("kernel.py", 7))
    with pytest.raises(InvalidIR) as e:
        verify(func(loop(bad)))
    assert str(e.value) == (
        "invalid IR in `f`: the value is f64, but `C` holds f32\n    C[i] = 1.0\n    (kernel.py:7)"
    )
    assert e.value.stmt is bad


def test_names_may_be_used_again_side_by_side() -> None:
    verify(func(loop(LOCAL), loop(Alloc("T", f64, ())), CELL, store(Let("t", X, X)), store(Let("t", X, X))))
    verify(func(loop(CELL), Alloc("acc", i32, ())))


def test_the_deepest_expressions_and_statements_read_back() -> None:
    from kdsl.ir.printer import print_func

    loads: Expr = ZERO
    for _ in range(78):
        loads = Load("I", (loads,), i64, (0,))
    params = (ArrayParam("I", i64, (N,)), C)
    for f in (
        func(store(deep(78))),
        func(store(long_sum(148))),
        func(nested(78)),
        func(store(X, loads), params=params),
    ):
        verify(f)
        assert parse_func(print_func(f)) == f


def test_long_let_chains_are_no_depth() -> None:
    e: Expr = Var("t_999", f32)
    for n in reversed(range(1000)):
        e = Let(f"t_{n}", Var(f"t_{n - 1}", f32) if n else X, e)
    verify(func(store(e)))
