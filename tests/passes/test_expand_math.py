"""Math calls become their definitions: names stay unique, arguments are evaluated once, f16 rounds once."""

from __future__ import annotations

import numpy as np
import pytest

from kdsl.dtypes import DType, f16, f32, f64, i64, sizes
from kdsl.ir.definition import Definition
from kdsl.ir.interpreter import run
from kdsl.ir.nodes import (
    ArrayParam,
    Binary,
    Body,
    Call,
    Const,
    Expr,
    Func,
    Let,
    Load,
    Loop,
    ScalarParam,
    Store,
    Var,
)
from kdsl.ir.verify import verify
from kdsl.ir.walk import exprs
from kdsl.passes import lower
from kdsl.passes.expand_math import expand_math
from kdsl.source import Loc
from kdsl.target import Target

N = sizes("N")


def toy(name: str, dtype: DType) -> Definition:
    """exp(x) = 1 + x + x * x; tanh(x) = exp(x + x) - 1; pow(x, y) = exp(y * log(x)); log(x) = x - 1."""
    x, y = Var("x", dtype), Var("y", dtype)
    one = Const(1.0, dtype)
    bodies: dict[str, Expr] = {
        "exp": Let("t", Binary("*", x, x), Binary("+", Binary("+", one, x), Var("t", dtype))),
        "tanh": Let("e", Call("exp", (Binary("+", x, x),), dtype), Binary("-", Var("e", dtype), one)),
        "log": Binary("-", x, one),
        "pow": Call("exp", (Binary("*", y, Call("log", (x,), dtype)),), dtype),
    }
    arity = 2 if name == "pow" else 1
    return Definition(name, tuple([ScalarParam(n, dtype) for n in "xy"[:arity]]), bodies[name])


def kernel(value: Expr, dtype: DType) -> Func:
    store = Store("B", (Var("i", i64),), value, loc=Loc("<k>", 3))
    body: Body = (Loop("i", Const(0, i64), Var("N", i64), Const(1, i64), (store,)),)
    return Func("k", (ArrayParam("A", dtype, (N,)), ArrayParam("B", dtype, (N,), written=True)), body, ("N",))


def load(dtype: DType) -> Load:
    return Load("A", (Var("i", i64),), dtype)


def values(func: Func, x: np.ndarray) -> np.ndarray:
    out = np.zeros_like(x)
    run(func, {"A": x, "B": out}, {}, {"N": len(x)})
    return out


@pytest.mark.parametrize("dtype", [f32, f64])
def test_nested_calls(dtype: DType) -> None:
    place = Loc("<k>", 7, 4)
    twice = Binary(
        "+", Call("tanh", (load(dtype),), dtype, loc=place), Call("exp", (load(dtype),), dtype, loc=place)
    )
    func = expand_math(kernel(twice, dtype), toy)
    verify(func)
    assert not any(isinstance(e, Call) for e in exprs(func.body))
    assert all(e.loc == place for e in exprs(func.body) if isinstance(e, Let))
    x = np.array([0.0, 0.5, -2.0], dtype.np)
    assert np.array_equal(values(func, x), (2 * x + 4 * x * x) + (1 + x + x * x))


def test_definitions_that_call_others() -> None:
    func = expand_math(kernel(Call("pow", (load(f64), Const(2.0, f64)), f64), f64), toy)
    verify(func)
    x = np.array([1.0, 3.0])
    y = 2 * (x - 1)
    assert np.array_equal(values(func, x), 1 + y + y * y)


def test_arguments_are_evaluated_once() -> None:
    func = expand_math(kernel(Call("exp", (load(f32),), f32), f32), toy)
    assert sum(isinstance(e, Load) for e in exprs(func.body)) == 1


def test_names_of_the_kernel_are_left_alone() -> None:
    value = Let("exp_x", load(f32), Call("exp", (Binary("+", Var("exp_x", f32), Const(1.0, f32)),), f32))
    func = expand_math(kernel(value, f32), toy)
    verify(func)
    assert values(func, np.float32([1.0])) == 7


def test_half_precision_rounds_once() -> None:
    func = expand_math(kernel(Call("exp", (load(f16),), f16), f16), toy)
    verify(func)
    x = np.float16([0.1, 3.3, 100.0])
    wide = x.astype(np.float32)
    assert np.array_equal(values(func, x), (1 + wide + wide * wide).astype(np.float16))


def test_without_math_nothing_changes() -> None:
    func = kernel(load(f32), f32)
    assert expand_math(func, toy) is func


def test_long_definitions_do_not_recurse() -> None:
    def long(name: str, dtype: DType) -> Definition:
        body: Expr = Var("t999", dtype)
        for n in reversed(range(1000)):
            body = Let(f"t{n}", Var(f"t{n - 1}" if n else "x", dtype), body)
        return Definition(name, (ScalarParam("x", dtype),), body)

    func = expand_math(kernel(Call("exp", (load(f32),), f32), f32), long)
    assert len({e.name for e in _chain(func)}) == 1001


def _chain(func: Func) -> list[Let]:
    (loop,) = func.body
    assert isinstance(loop, Loop) and isinstance(loop.body[0], Store)
    e, out = loop.body[0].value, []
    while isinstance(e, Let):
        out.append(e)
        e = e.body
    return out


def test_lower_shows_and_verifies_each_pass() -> None:
    stages: list[str] = []
    func = kernel(Call("exp", (load(f32),), f32), f32)
    lowered = lower(func, Target("cpu"), toy, verify=True, on_stage=lambda name, _: stages.append(name))
    assert stages == [
        "unbind", "instructions", "registers", "hints", "trim", "simplify", "bounds", "full_tiles", "unroll",
        "fold", "rows", "expand_math",
    ]  # fmt: skip
    assert not any(isinstance(e, Call) for e in exprs(lowered.body))
