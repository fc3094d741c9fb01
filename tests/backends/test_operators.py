"""Every operator, function and cast on every dtype: each target = interpreter, bit for bit, on edge values.

Contraction cannot show here: each output is one operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kdsl.backends.llvm import host_target
from kdsl.dtypes import ALL, DType, Size, bf16, bool_, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from kdsl.ir.nodes import (
    Binary,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Func,
    Let,
    Logic,
    Options,
    ScalarParam,
    Select,
    Unary,
    Var,
)
from kdsl.target import Target
from tests.backends import harness, spirv_harness
from tests.backends.harness import (
    FLOATS,
    INTS,
    accumulate,
    array,
    at,
    const,
    edge_values,
    elementwise,
    loop,
    pairs,
    put,
    var,
)
from tests.backends.spirv_harness import needs_vulkan

A, B, C = (lambda t: at("a", t, var("i"))), (lambda t: at("b", t, var("i"))), (lambda t: at("c", t, var("i")))
BASELINE = Target("cpu", 0, "x86-64", "", host_target().triple)
"""x86-64 with SSE2 only: no F16C, no fma, no rounding instructions."""

ARITHMETIC = ("+", "-", "*", "min", "max")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


MACHINES = ("cpu", pytest.param("vulkan", marks=needs_vulkan))
on_each = pytest.mark.parametrize("machine", MACHINES)
on_each_and_sse2 = pytest.mark.parametrize("machine", (*MACHINES, "sse2"))


def agree(machine: str, func: Func, arguments: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    if machine == "vulkan":
        spirv_harness.agree(func, arguments, sizes)
    else:
        harness.agree(func, arguments, sizes, BASELINE if machine == "sse2" else None)


def _check(machine: str, func: Func, t: DType) -> None:
    a, b = pairs(edge_values(t), edge_values(t))
    _check_on(machine, func, {"a": a, "b": b})


def _check_on(machine: str, func: Func, inputs: dict[str, np.ndarray]) -> None:
    size = len(inputs["a"])
    arguments = {p.name: inputs.get(p.name, np.zeros(size, p.dtype.np)) for p in func.arrays}
    agree(machine, func, arguments, {"N": size})


@on_each
@pytest.mark.parametrize("t", INTS, ids=repr)
def test_integer_operators(machine: str, t: DType) -> None:
    ops = (*ARITHMETIC, "&", "|", "^", "<<", ">>")
    outputs: dict[str, Expr] = {f"o{n}": Binary(op, A(t), B(t)) for n, op in enumerate(ops)}
    outputs |= {f"c{n}": Compare(op, A(t), B(t)) for n, op in enumerate(COMPARISONS)}
    outputs |= {
        "neg": Unary("-", A(t)),
        "inv": Unary("~", A(t)),
        "abs": Call("abs", (A(t),), t),
        "minimum": Call("minimum", (A(t), B(t)), t),
        "maximum": Call("maximum", (A(t), B(t)), t),
    }
    _check(machine, elementwise("ints", {"a": t, "b": t}, outputs), t)


@on_each
@pytest.mark.parametrize("t", INTS, ids=repr)
def test_integer_division_floors(machine: str, t: DType) -> None:
    outputs = {"q": Binary("//", A(t), B(t)), "r": Binary("%", A(t), B(t))}
    a, b = pairs(edge_values(t), edge_values(t))
    _check_on(machine, elementwise("division", {"a": t, "b": t}, outputs), {"a": a[b != 0], "b": b[b != 0]})


@on_each
@pytest.mark.parametrize("t", (i8, i32, i64, u16, u64), ids=repr)
def test_integer_division_by_constants(machine: str, t: DType) -> None:
    divisors = [d for d in (1, 2, 3, 7, 16, 100, -1, -2, -3, -16, t.min, t.max) if t.min <= d <= t.max and d]
    outputs: dict[str, Expr] = {}
    for n, d in enumerate(divisors):
        outputs |= {f"q{n}": Binary("//", A(t), const(d, t)), f"r{n}": Binary("%", A(t), const(d, t))}
    _check_on(machine, elementwise("constants", {"a": t}, outputs), {"a": edge_values(t)})


@on_each
@pytest.mark.parametrize("t", INTS, ids=repr)
def test_integer_power(machine: str, t: DType) -> None:
    outputs = {f"p{n}": Call("ipow", (A(t), const(n, t)), t) for n in (0, 1, 2, 3, 10, 63)}
    outputs["p"] = Call("ipow", (A(t), B(t)), t)
    a, b = pairs(edge_values(t), edge_values(t))
    keep = b.astype(object) >= 0
    _check_on(machine, elementwise("power", {"a": t, "b": t}, outputs), {"a": a[keep], "b": b[keep]})


@on_each
def test_bool_operators(machine: str) -> None:
    outputs: dict[str, Expr] = {
        f"o{n}": Binary(op, A(bool_), B(bool_)) for n, op in enumerate(("&", "|", "^", "+", "*"))
    }
    outputs |= {f"c{n}": Compare(op, A(bool_), B(bool_)) for n, op in enumerate(COMPARISONS)}
    outputs["inverse"] = Unary("not", A(bool_))
    _check(machine, elementwise("bools", {"a": bool_, "b": bool_}, outputs), bool_)


@on_each_and_sse2
@pytest.mark.parametrize("t", FLOATS, ids=repr)
def test_float_operators(machine: str, t: DType) -> None:
    outputs: dict[str, Expr] = {
        f"o{n}": Binary(op, A(t), B(t)) for n, op in enumerate((*ARITHMETIC, "/", "//", "%"))
    }
    outputs |= {f"c{n}": Compare(op, A(t), B(t)) for n, op in enumerate(COMPARISONS)}
    outputs |= {fn: Call(fn, (A(t), B(t)), t) for fn in ("copysign", "minimum", "maximum", "fmod")}
    outputs |= {fn: Call(fn, (A(t),), t) for fn in ("abs", "sqrt", "floor", "ceil", "trunc", "round")}
    outputs |= {fn: Call(fn, (A(t),), bool_) for fn in ("isnan", "isinf", "isfinite")}
    outputs["neg"] = Unary("-", A(t))
    _check(machine, elementwise("floats", {"a": t, "b": t}, outputs), t)


@on_each_and_sse2
@pytest.mark.parametrize("t", FLOATS, ids=repr)
def test_fma_rounds_once(machine: str, t: DType) -> None:
    values = edge_values(t)
    a, b = pairs(values, values)
    c = np.resize(values[::-1], a.size)
    func = elementwise("fused", {"a": t, "b": t, "c": t}, {"o": Call("fma", (A(t), B(t), C(t)), t)})
    _check_on(machine, func, {"a": a, "b": b, "c": c})


@on_each_and_sse2
@pytest.mark.parametrize("source", ALL, ids=repr)
def test_casts(machine: str, source: DType) -> None:
    outputs: dict[str, Expr] = {f"to_{t.name}": Cast(A(source), t) for t in ALL}
    values = edge_values(source)
    if source.is_float:
        near = [2.0**n + d for n in (7, 8, 15, 16, 31, 32, 63, 64) for d in (-1, -0.5, 0, 0.5, 1)]
        ties = [
            1 + 2.0**-8,
            1 + 3 * 2.0**-9,
            1 + 2.0**-11,
            65519.999,
            65520.0,
            2.0**-25,
            1.5 * 2.0**-25,
            1 + 2.0**-9 + 2.0**-40,
        ]
        with np.errstate(all="ignore"):
            values = np.concatenate([values, np.array([*near, *[-x for x in near], *ties]).astype(source.np)])
    elif source.bits == 64:
        tricky = [2**62 + 2**54 + d for d in (-1, 0, 1)] + [
            2**53 + 1,
            2**24 + 1,
            257 * 2**40 + 1,
            2**62 + 2**54 + 2**30,
        ]
        values = np.concatenate([values, np.array(tricky, source.np)])
    _check_on(machine, elementwise("casts", {"a": source}, outputs), {"a": values})


@on_each
@pytest.mark.parametrize(
    ("t", "to"),
    [
        (f32, u32),
        (f32, i32),
        (f64, i64),
        (f64, u64),
        (f16, u16),
        (bf16, i16),
        (i32, u32),
        (u16, i16),
        (i8, u8),
    ],
    ids=repr,
)
def test_bitcast_both_ways(machine: str, t: DType, to: DType) -> None:
    there = elementwise("there", {"a": t}, {"o": Call("bitcast", (A(t),), to)})
    back = elementwise("back", {"a": to}, {"o": Call("bitcast", (A(to),), t)})
    _check_on(machine, there, {"a": edge_values(t)[~np.isnan(edge_values(t).astype("f8"))]})
    _check_on(machine, back, {"a": edge_values(to)})


@on_each_and_sse2
@pytest.mark.parametrize("t", (f16, bf16), ids=repr)
def test_all_16_bit_floats_survive_a_round_trip(machine: str, t: DType) -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(t.np)
    values = values[~np.isnan(values.astype("f4"))]
    _check_on(machine, elementwise("trip", {"a": t}, {"o": Cast(Cast(A(t), f64), t)}), {"a": values})


@on_each
@pytest.mark.parametrize("t", (f16, bf16), ids=repr)
def test_rounding_to_16_bits_is_to_nearest_even(machine: str, t: DType) -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, 20000, dtype=np.uint32)
    edges = (np.arange(1 << 16, dtype=np.uint32) << 16) + rng.choice(
        [0, 1, 0x7FFF, 0x8000, 0x8001, 0x1000], 1 << 16
    )
    values = np.concatenate([bits, edges.astype(np.uint32)]).view(np.float32)
    func = elementwise("narrow", {"a": f32}, {"o": Cast(A(f32), t)})
    _check_on(machine, func, {"a": values})


@on_each
@pytest.mark.parametrize("t", ALL, ids=repr)
def test_constants_and_scalar_parameters(machine: str, t: DType) -> None:
    values = edge_values(t)[:12]
    params = tuple(ScalarParam(f"s{n}", t) for n in range(len(values)))
    out = array("o", t, 2 * len(values), written=True)
    body = []
    for n, v in enumerate(values):
        body += [put("o", Const(v.item(), t), const(2 * n)), put("o", Var(f"s{n}", t), const(2 * n + 1))]
    func = Func("scalars", (*params, out), tuple(body))
    arguments = {f"s{n}": v for n, v in enumerate(values)} | {"o": np.zeros(2 * len(values), t.np)}
    agree(machine, func, arguments, {})


@on_each
@pytest.mark.parametrize("op", ("+", "*", "min", "max"))
@pytest.mark.parametrize("t", (*FLOATS, i8, i64, u32, u8, bool_), ids=repr)
def test_accumulate(machine: str, op: str, t: DType) -> None:
    values = edge_values(t)
    func = Func(
        "reduce",
        (array("a", t, Size({"N": 1})), array("o", t, 1, written=True)),
        (loop("i", var("N"), accumulate(op, "o", A(t), const(0))),),
        ("N",),
    )
    if t.is_float:
        values = values[~np.isnan(values.astype("f8"))]
    agree(machine, func, {"a": values, "o": values[-1:].copy()}, {"N": len(values)})


@on_each
def test_select_and_logic_are_lazy(machine: str) -> None:
    """The operand that is not chosen may not fault: here it divides by zero or reads outside."""
    i, n = var("i"), var("N")
    inside = Compare("<", i, Binary("-", n, const(1)))
    after = at("a", i32, Binary("+", i, const(1)), checked=(0,))
    divided = Binary("//", const(12, i32), A(i32))
    nonzero = Compare("!=", A(i32), const(0, i32))
    outputs: dict[str, Expr] = {
        "next": Select(inside, after, const(-1, i32)),
        "div": Select(nonzero, divided, const(0, i32)),
        "both": Logic("and", nonzero, Compare(">", divided, const(3, i32))),
        "either": Logic("or", Unary("not", nonzero), Compare(">", divided, const(3, i32))),
        "same": Select(Compare(">", A(i32), const(0, i32)), A(i32), const(0, i32)),
    }
    _check_on(
        machine, elementwise("lazy", {"a": i32}, outputs), {"a": np.array([3, 0, 4, 0, 5, -2, 0], np.int32)}
    )


@on_each
def test_let_is_evaluated_once_and_nests(machine: str) -> None:
    x, y = Var("x", f32), Var("y", f32)
    e = Let("x", Binary("*", A(f32), A(f32)), Let("y", Binary("+", x, x), Binary("-", y, x)))
    _check_on(machine, elementwise("lets", {"a": f32}, {"o": e}), {"a": edge_values(f32)[:16]})


@needs_vulkan
@pytest.mark.parametrize("t", FLOATS, ids=repr)
def test_division_root_and_fma_in_software(t: DType) -> None:
    """What a strict kernel does on a device of which nothing is known but what it promises."""
    promises = [f"shader{p}Float{n}" for p in ("DenormPreserve", "RoundingModeRTE") for n in (32, 64)]
    target = replace(
        spirv_harness.device(), cpu="unknown", features=",".join([spirv_harness.device().features, *promises])
    )
    outputs: dict[str, Expr] = {
        "q": Binary("/", A(t), B(t)),
        "f": Binary("//", A(t), B(t)),
        "r": Call("sqrt", (A(t),), t),
        "m": Call("fma", (A(t), B(t), C(t)), t),
    }
    func = elementwise("soft", {"a": t, "b": t, "c": t}, outputs, options=Options(strict=True))
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 1 << t.bits, (3, 4000), dtype=f"u{t.bytes}").view(t.np)
    near = rng.standard_normal((3, 4000)).astype(t.np)
    values = edge_values(t)
    a, b = pairs(values, values)
    inputs = [a, b, np.resize(values[::-1], a.size)]
    with np.errstate(all="ignore"):
        cancelling = [near[0], near[1], -(near[0] * near[1])]
        a, b, c = (
            np.concatenate([x, bits[n], near[n], cancelling[n]]).astype(t.np) for n, x in enumerate(inputs)
        )
    arguments = {"a": a, "b": b, "c": c} | {n: np.zeros(a.size, t.np) for n in outputs}
    spirv_harness.agree(func, arguments, {"N": a.size}, spirv_harness.compiled(func, target))


def test_unused_dtypes_are_all_covered() -> None:
    assert set(ALL) == {*FLOATS, *INTS, bool_} and {u8, i16, u16, u64} <= set(INTS)
